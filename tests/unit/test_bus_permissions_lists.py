"""Allow-lists: exact, never empty, and no name can widen them."""

from __future__ import annotations

import pytest

from ray_mesh.bus import subjects
from ray_mesh.bus.permissions import EXPORTS, ROLES, permissions
from ray_mesh.errors import ConfigError


@pytest.mark.parametrize("role", ROLES)
def test_lists_are_never_empty_nor_everything(role: str) -> None:
    for attested in (True, False):
        allowed = permissions(role, "a", node="n1", attested=attested)
        for subject in (*allowed.publish, *allowed.subscribe):
            assert subject.split(".")[0] not in ("*", ">")
        assert allowed.publish
        assert allowed.subscribe


@pytest.mark.parametrize("role", ROLES)
def test_each_role_hears_its_own_inbox_only(role: str) -> None:
    allowed = permissions(role, "a", node="n1")
    assert [s for s in allowed.subscribe if s.startswith("_INBOX")] == [f"_INBOX.{role}.a.>"]


def test_only_proxies_are_in_the_account_without_storage() -> None:
    accounts = {role: permissions(role, "a", node="n1").account for role in ROLES}
    assert {role for role, account in accounts.items() if account == "edge"} == {"proxy"}
    assert permissions("proxy", "a", attested=False).account == "edge"


def test_nothing_that_writes_passes_between_the_accounts() -> None:
    offered = [export.subject for export in EXPORTS["control"]]
    assert not [subject for subject in offered if subject.startswith(("$KV", "$JS.API.STREAM", "$SYS"))]


def test_a_proxy_without_a_certificate_reaches_its_csr_subject_only() -> None:
    allowed = permissions("proxy", "p1", node="n1", attested=False)
    assert allowed.publish == (subjects.csr("p1"),)
    assert allowed.subscribe == ("_INBOX.proxy.p1.>",)


def test_nobody_may_change_streams_but_the_controller() -> None:
    for role in ROLES:
        publish = permissions(role, "a", node="n1").publish
        changing = [s for s in publish if "STREAM" in s and ".INFO." not in s]
        assert not [s for s in publish if "PURGE" in s or "DELETE" in s or "CONSUMER" in s]
        assert bool(changing) == (role == "controller")


@pytest.mark.parametrize("name", ["", "*", ">", "a.b", "a b", "a\r\n", "a" * 129, "ä", "$"])
def test_a_name_cannot_widen_a_subject(name: str) -> None:
    for role in ROLES:
        with pytest.raises(ConfigError):
            permissions(role, name, node="n1")
    with pytest.raises(ConfigError):
        permissions("proxy", "p1", node=name)


def test_an_unknown_role_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="'admin' is no role of the mesh"):
        permissions("admin", "a")


def test_republished_subjects_are_what_followers_hear() -> None:
    assert subjects.republished(subjects.DESIRED_BUCKET, ">") == "mesh.v1.desired.>"
    assert subjects.republished(subjects.SHARED_BUCKET, "service.a.b") == "mesh.v1.shared.service.a.b"
    assert subjects.direct_get(subjects.PRIVATE_BUCKET, "n1.>") == (
        "$JS.API.DIRECT.GET.KV_mesh-private.$KV.mesh-private.n1.>"
    )
