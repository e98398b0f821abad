"""When a sidecar counts as there, and when it is removed; what the controller remembers of it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from ray_mesh.actors.inventory import Inventory, Member
from ray_mesh.actors.settings import MeshOptions, why_no_sidecars
from ray_mesh.actors.sidecars import (
    ABSENT_S,
    ATTEST_WITHIN_S,
    LIVE_S,
    Presence,
    Sidecars,
    check_node_name,
)
from ray_mesh.bus.client import Message
from ray_mesh.bus.credentials import BrokerAddress
from ray_mesh.bus.external import ExternalNats
from ray_mesh.bus.messages import JoinRequest, encode
from ray_mesh.errors import ConfigError, PolicyDenied, Unauthenticated, Unavailable
from ray_mesh.gateway.sidecars import TRIES_BURST, TRIES_PER_S, SidecarDesk, Tries


def test_a_sidecar_that_never_shows_its_certificate_is_removed() -> None:
    presence = Presence()
    assert presence.overdue({"s": False}, 100.0) == []
    assert presence.is_live("s", 100.0 + ATTEST_WITHIN_S - 1)
    assert presence.overdue({"s": False}, 100.0 + ATTEST_WITHIN_S) == []
    assert presence.overdue({"s": False}, 100.1 + ATTEST_WITHIN_S) == ["s"]


def test_a_sidecar_is_removed_when_its_lease_is_gone_for_long() -> None:
    presence = Presence()
    presence.overdue({"s": True}, 0.0)
    presence.heard("s", 1000.0)
    assert presence.is_live("s", 1000.0 + LIVE_S - 1)
    assert not presence.is_live("s", 1000.0 + LIVE_S)
    assert presence.overdue({"s": True}, 1000.0 + ABSENT_S) == []
    assert presence.overdue({"s": True}, 1000.1 + ABSENT_S) == ["s"]


def test_the_time_in_which_nobody_could_be_heard_does_not_count() -> None:
    presence = Presence()
    presence.heard("s", 0.0)
    presence.restart()
    assert presence.overdue({"s": True}, 10_000.0) == []
    assert presence.overdue({"s": True}, 10_000.1 + ABSENT_S) == ["s"]


def test_the_inventory_keeps_sidecars_and_tokens(tmp_path: Path) -> None:
    inventory = Inventory(tmp_path / "actors.json")
    member = Member(
        "proxy", 0, "sidecar-a", "sidecar-a-1", "UA", False, "ab" * 32, "default/web", session_sha256="cd"
    )
    inventory.members[member.instance] = member
    inventory.tokens.add("ef", "default/web", 60, 1000.0)
    inventory.tokens.redeem("ef", "default/web", 1001.0)
    inventory.save()
    read = Inventory.load(inventory.path)
    assert read == inventory
    assert read.tokens.tokens["ef"].used
    assert not read.members["sidecar-a-1"].is_actor
    assert read.members["sidecar-a-1"].registration().account == "default/web"
    assert Member("proxy", 0, "n", "p", "UB").is_actor


@pytest.mark.parametrize("node", ["f00ba4", "sidecar.a", "sidecar-*", "", "sidecar-" + "a" * 100])
def test_a_sidecar_cannot_take_the_node_of_others(node: str) -> None:
    with pytest.raises(ConfigError, match="cannot name"):
        check_node_name(node)


def test_tries_are_bounded_and_come_back_with_time() -> None:
    tries = Tries(at=0.0)
    for _ in range(int(TRIES_BURST)):
        tries.take(0.0)
    with pytest.raises(Unavailable, match="try again"):
        tries.take(0.0)
    tries.take(1.0 / TRIES_PER_S)
    with pytest.raises(Unavailable):
        tries.take(1.0 / TRIES_PER_S)


SESSION = "ab" * 32
ATTACH = {"service": "s", "version": "v1", "port": 0}
JOIN = {"serviceAccount": "default/web", "node": "sidecar-a", "nkey": "UA", "identityKeySha256": ""}


@pytest.mark.parametrize(
    "ask",
    [
        lambda desk: desk.create_token({"serviceAccount": "default/web"}),
        lambda desk: desk.join(SESSION, JOIN),
        lambda desk: desk.attest(SESSION, {"chain": []}),
        lambda desk: desk.attach(SESSION, ATTACH, "me"),
        lambda desk: desk.detach(SESSION, "me"),
        lambda desk: desk.leave(SESSION, "me"),
    ],
)
async def test_where_sidecars_are_refused_nobody_is_asked_about_them(
    ask: Callable[[SidecarDesk], Awaitable[object]],
) -> None:
    """Whoever shares the one credential of all could answer in the name of the controller."""
    shared = MeshOptions(nats=ExternalNats("tls://nats.example"))
    refusal = why_no_sidecars(shared)
    nothing = cast(Any, None)
    with pytest.raises(PolicyDenied, match="no sidecar may hold"):
        await ask(SidecarDesk(nothing, nothing, nothing, nothing, nothing, refusal=refusal))


def test_sidecars_are_refused_only_where_roles_and_proxies_share_a_credential() -> None:
    apart = ExternalNats("tls://nats.example", has_proxy_login=True)
    assert why_no_sidecars(MeshOptions()) == why_no_sidecars(MeshOptions(nats=apart)) == ""


async def test_a_token_that_is_guessed_costs_no_write_to_disk(tmp_path: Path) -> None:
    inventory = Inventory(tmp_path / "actors.json")
    nothing = cast(Any, None)
    sidecars = Sidecars(inventory, nothing, "mesh.local", BrokerAddress("", ""), nothing)
    request = JoinRequest("ab", "default/web", "sidecar-a", "UA", b"", "cd")
    with pytest.raises(Unauthenticated):
        await sidecars._answer_join(Message("mesh.v1.control.join", encode(request)))
    assert not inventory.path.exists()
    inventory.tokens.add("ab", "default/other", 60, time.time())
    with pytest.raises(PolicyDenied, match="used up by this try"):
        await sidecars._answer_join(Message("mesh.v1.control.join", encode(request)))
    assert Inventory.load(inventory.path).tokens.tokens["ab"].used
