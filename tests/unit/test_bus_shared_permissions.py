"""The allow-lists of one credential for many: everything that each needs, and nothing of the other side."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ray_mesh.bus.credentials import Credential
from ray_mesh.bus.permissions import (
    EXPORTS,
    ROLES,
    covers,
    permissions,
    shared_permissions,
    whole_permissions,
)
from ray_mesh.bus.server import BrokerOptions, render_accounts, render_config
from ray_mesh.errors import ConfigError


@pytest.mark.parametrize(
    ("wide", "subject", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.*", "a.b", True),
        ("a.*", "a.*", True),
        ("a.*", "a.b.c", False),
        ("a.*", "a", False),
        ("a.>", "a.b.c", True),
        ("a.>", "a.>", True),
        ("a.>", "a", False),
        ("a.*", "a.>", False),
        ("a.b", "a.*", False),
        ("a.b.c", "a.b", False),
        (">", "a", True),
    ],
)
def test_covers(wide: str, subject: str, expected: bool) -> None:
    assert covers(wide, subject) is expected


@pytest.mark.parametrize("role", [role for role in ROLES if role != "observer"])
def test_every_role_and_proxy_has_all_that_it_needs(role: str) -> None:
    one = permissions(role, "i1", node="n1")
    for shared in (shared_permissions(one.account), whole_permissions()):
        for subject in one.publish:
            assert any(covers(wide, subject) for wide in shared.publish), subject
        for subject in one.subscribe:
            assert any(covers(wide, subject) for wide in shared.subscribe), subject


def test_in_one_account_roles_answer_proxies_directly() -> None:
    assert any(covers(wide, "_INBOX.proxy.p1.token") for wide in whole_permissions().publish)


def test_proxies_get_nothing_of_the_roles() -> None:
    edge = shared_permissions("edge")
    for subject in ("$KV.mesh-shared.x", "$JS.API.INFO", "$JS.API.STREAM.PURGE.KV_mesh-shared",
                    "mesh.v1.beacon.x", "mesh.v1.control.down", "mesh.v1.role.policy.x"):  # fmt: skip
        assert not any(covers(wide, subject) for wide in edge.publish), subject
    for subject in ("mesh.v1.desired.x", "mesh.v1.lease.x", "mesh.v1.csr.x", "_INBOX.gateway.x.y"):
        assert not any(covers(wide, subject) for wide in edge.subscribe), subject


def test_what_is_printed_has_every_subject_once_and_every_crossing(tmp_path: Path) -> None:
    control, proxies = Credential.generate().public, Credential.generate().public
    text = render_accounts(control, proxies)
    for account, nkey in (("control", control), ("edge", proxies)):
        allowed = shared_permissions("control" if account == "control" else "edge")
        line = next(line for line in text.splitlines() if nkey in line)
        publish, subscribe = re.findall(r"allow: \[(.*?)\]", line)
        assert re.findall(r'"(.*?)"', publish) == list(allowed.publish)
        assert re.findall(r'"(.*?)"', subscribe) == list(allowed.subscribe)
    # The crossings are those of the embedded broker, to the letter.
    options = BrokerOptions(tmp_path, tmp_path, tmp_path)
    embedded = render_config(options, 1, "x", {control: permissions("gateway", "g")})
    for name in ("exports", "imports"):
        assert re.findall(rf"{name}: .*", text) == re.findall(rf"{name}: .*", embedded)
    assert text.count("accounts: [edge]") == len(EXPORTS["control"])


def test_only_public_keys_are_printed() -> None:
    with pytest.raises(ConfigError, match="not the public NKEY"):
        render_accounts(Credential.generate().reveal())
