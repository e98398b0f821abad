"""Who may have which identity."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from ray_mesh.bus.messages import CsrRequest
from ray_mesh.errors import ConfigError, PeerError, PolicyDenied
from ray_mesh.security import possession
from ray_mesh.security.ca import public_key_sha256
from ray_mesh.security.registrations import (
    BindingRegistration,
    ProxyRegistration,
    Registrations,
    WorkloadRegistration,
)
from ray_mesh.security.svid import csr, new_key

NOW = 1_750_000_000.0
KEY, OTHER_KEY = new_key(), new_key()
REVIEWS = "workload.default.reviews-1"


@dataclass(frozen=True)
class Request:
    """Asked by ``p1`` with the key that is registered for it, unless another is given."""

    workload: str = ""
    csr_der: bytes = csr(KEY)
    signer: EllipticCurvePrivateKey = KEY
    proxy: str = "p1"

    @property
    def proxy_key(self) -> bytes:
        return possession.public_der(self.signer)

    @property
    def proof(self) -> bytes:
        return possession.prove(self.signer, self.proxy, self.workload, self.csr_der)


def proxy(
    node: str = "node-a", nkey: str = "UA", key: bytes = public_key_sha256(KEY.public_key())
) -> ProxyRegistration:
    return ProxyRegistration(node, nkey, key)


@pytest.fixture
def known() -> Registrations:
    state = Registrations("mesh.local")
    state.set_proxy("p1", proxy())
    state.set_workload(REVIEWS, WorkloadRegistration("node-a", "default", "reviews"))
    state.set_binding("b", BindingRegistration("default", "reviews", ("node-a",)))
    state.validate()
    return state


def refused(state: Registrations, name: str, request: Request, message: str) -> None:
    with pytest.raises(PolicyDenied, match=message) as caught:
        state.decide(name, request, NOW)
    verdict = state.log[-1]
    assert (verdict.proxy, verdict.identity, verdict.reason) == (name, "", str(caught.value))
    assert " " in verdict.reason
    state.validate()


def test_a_proxy_gets_its_own_identity_with_its_own_key(known: Registrations) -> None:
    identity = known.decide("p1", Request(), NOW)
    assert str(identity) == "spiffe://mesh.local/ns/mesh-system/sa/proxy-p1"
    assert (known.log[-1].at, known.log[-1].identity, known.log[-1].reason) == (NOW, str(identity), "")


def test_another_key_is_refused(known: Registrations) -> None:
    refused(known, "p1", Request(csr_der=csr(OTHER_KEY)), "did not register")


def test_unknown_and_removed_proxies(known: Registrations) -> None:
    refused(known, "p2", Request(), "not registered")
    refused(known, "p2", Request(REVIEWS), "not registered")
    known.remove_proxy("p1")
    known.remove_proxy("p1")
    refused(known, "p1", Request(), "not registered")
    refused(known, "p1", Request(REVIEWS), "not registered")


def test_a_proxy_that_replaces_another_brings_its_key(known: Registrations) -> None:
    known.set_proxy("p1", proxy(nkey="UB", key=public_key_sha256(OTHER_KEY.public_key())))
    refused(known, "p1", Request(), "did not register")
    assert known.decide("p1", Request(csr_der=csr(OTHER_KEY)), NOW).service_account == "proxy-p1"


def test_a_workload_of_the_node_with_a_binding(known: Registrations) -> None:
    identity = known.decide("p1", Request(REVIEWS, csr(OTHER_KEY)), NOW)
    assert str(identity) == "spiffe://mesh.local/ns/default/sa/reviews"


def test_unknown_workloads(known: Registrations) -> None:
    refused(known, "p1", Request("workload.default.none"), "attach the workload")
    known.remove_workload(REVIEWS)
    refused(known, "p1", Request(REVIEWS), "attach the workload")


def test_a_workload_of_another_node(known: Registrations) -> None:
    known.set_proxy("p2", proxy("node-b", "UB", public_key_sha256(OTHER_KEY.public_key())))
    request = Request(REVIEWS, csr(OTHER_KEY), signer=OTHER_KEY, proxy="p2")
    refused(known, "p2", request, "node-b may not speak for it")


def test_nobody_asks_in_the_name_of_another_proxy(known: Registrations) -> None:
    """Whoever shares the broker's credential can send on any proxy's subject."""
    known.set_proxy("p2", proxy("node-b", "UB", public_key_sha256(OTHER_KEY.public_key())))
    refused(known, "p1", Request(REVIEWS, csr(OTHER_KEY), signer=OTHER_KEY), "not signed with the key")
    refused(known, "p1", Request(REVIEWS, csr(OTHER_KEY), proxy="p2"), "not signed with the key")


GOOD_CSR = csr(KEY)
GOOD = CsrRequest(
    REVIEWS, GOOD_CSR, possession.public_der(KEY), possession.prove(KEY, "p1", REVIEWS, GOOD_CSR)
)


@pytest.mark.parametrize(
    "changed",
    [
        replace(GOOD, workload="workload.default.other"),
        replace(GOOD, csr_der=csr(OTHER_KEY)),
        replace(GOOD, proxy_key=possession.public_der(OTHER_KEY)),
        replace(GOOD, proxy_key=b""),
        replace(GOOD, proxy_key=b"garbage"),
        replace(GOOD, proof=b""),
        replace(GOOD, proof=b"garbage"),
        CsrRequest(REVIEWS, GOOD_CSR),
    ],
)
def test_a_proof_holds_for_the_very_request_only(known: Registrations, changed: CsrRequest) -> None:
    known.set_workload("workload.default.other", WorkloadRegistration("node-a", "default", "reviews"))
    assert known.decide("p1", GOOD, NOW).service_account == "reviews"
    with pytest.raises(PolicyDenied, match="not signed with the key"):
        known.decide("p1", changed, NOW)


@pytest.mark.parametrize(
    "binding",
    [
        BindingRegistration("default", "reviews", ()),
        BindingRegistration("default", "reviews", ("node-b", "node-", "NODE-A")),
        BindingRegistration("default", "ratings", ("*",)),
        BindingRegistration("other", "reviews", ("*",)),
    ],
)
def test_bindings_that_do_not_cover(known: Registrations, binding: BindingRegistration) -> None:
    known.set_binding("b", binding)
    refused(known, "p1", Request(REVIEWS), "no WorkloadBinding covers it")


def test_bindings_come_and_go(known: Registrations) -> None:
    known.set_binding("any", BindingRegistration("default", "reviews", ("*",)))
    known.remove_binding("b")
    assert known.decide("p1", Request(REVIEWS), NOW).service_account == "reviews"
    known.remove_binding("any")
    refused(known, "p1", Request(REVIEWS), "no WorkloadBinding covers it")


def test_no_workload_runs_as_a_proxy(known: Registrations) -> None:
    known.set_workload(REVIEWS, WorkloadRegistration("node-a", "mesh-system", "proxy-p1"))
    known.set_binding("b", BindingRegistration("mesh-system", "proxy-p1", ("*",)))
    refused(known, "p1", Request(REVIEWS), "identity of a proxy")


def test_an_ingress_may_run_in_the_root_namespace(known: Registrations) -> None:
    known.set_workload(REVIEWS, WorkloadRegistration("node-a", "mesh-system", "ingress"))
    known.set_binding("b", BindingRegistration("mesh-system", "ingress", ("*",)))
    assert known.decide("p1", Request(REVIEWS), NOW).service_account == "ingress"


def test_unproven_requests_are_refused_and_logged(known: Registrations) -> None:
    for workload in ("", REVIEWS):
        with pytest.raises(PeerError, match="unreadable"):
            known.decide("p1", Request(workload, b"garbage"), NOW)
        assert "unreadable" in known.log[-1].reason


@pytest.mark.parametrize(
    ("name", "registration"),
    [
        ("p2", ProxyRegistration("", "UB", b"x" * 32)),
        ("p2", ProxyRegistration("node-a", "UB", b"short")),
        ("p2", ProxyRegistration("node-a", "UA", b"x" * 32)),
        ("p2", proxy(nkey="UB")),
        ("../p2", ProxyRegistration("node-a", "UB", b"x" * 32)),
    ],
)
def test_registrations_that_are_refused(
    known: Registrations, name: str, registration: ProxyRegistration
) -> None:
    with pytest.raises(ConfigError):
        known.set_proxy(name, registration)
    refused(known, name, Request(), "not registered")


@pytest.mark.parametrize(
    "workload",
    [WorkloadRegistration("", "default", "x"), WorkloadRegistration("node-a", "default", "x/../y")],
)
def test_workloads_that_are_refused(known: Registrations, workload: WorkloadRegistration) -> None:
    with pytest.raises(ConfigError):
        known.set_workload("workload.default.bad", workload)


def test_the_log_is_bounded(known: Registrations) -> None:
    for number in range(1100):
        with pytest.raises(PolicyDenied):
            known.decide(f"unknown-{number}", Request(), NOW + number)
    known.validate()
    assert known.log[-1].proxy == "unknown-1099"


def test_a_sidecar_speaks_only_for_the_account_that_it_joined_for(known: Registrations) -> None:
    known.set_workload("workload.default.ratings-1", WorkloadRegistration("node-a", "default", "ratings"))
    known.set_binding("c", BindingRegistration("default", "ratings", ("*",)))
    known.set_proxy("p1", ProxyRegistration("node-a", "UA", proxy().key_sha256, "default/reviews"))
    assert str(known.decide("p1", Request(REVIEWS), NOW)).endswith("/ns/default/sa/reviews")
    refused(known, "p1", Request("workload.default.ratings-1"), "joined for default/reviews only")
