"""Proxies outside Ray: the controller's part of their life, from a join token to their end.

A sidecar is a member like any proxy, with a node of its own and no actor: nothing here starts or
restarts it. What it may do grows in the same steps as for an actor. ``join`` uses a token up and
registers the public halves of its keys; ``attest`` sees its certificate and gives the full allow-list.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field, replace

from ray_mesh import __version__
from ray_mesh.actors.inventory import Inventory, Member
from ray_mesh.actors.settings import MeshKeys
from ray_mesh.bus import messages, subjects
from ray_mesh.bus.client import Bus, Message
from ray_mesh.bus.credentials import BrokerAddress, is_user_key
from ray_mesh.errors import ConfigError, Conflict, PeerError, Unauthenticated
from ray_mesh.security.join import SIDECAR_PREFIX, sidecar_proxy

ATTEST_WITHIN_S = 60.0
"""A sidecar that has not shown its certificate by then is removed."""
ABSENT_S = 300.0
"""A sidecar whose lease is gone for this long, with broker and controller there, is removed."""
LIVE_S = 5.0
MOST_NODE_LENGTH = 100


@dataclass(slots=True)
class Presence:
    """When each sidecar was last heard of. Pure: time comes in as ``now``."""

    _since: dict[str, float] = field(default_factory=dict)
    _heard_at: dict[str, float] = field(default_factory=dict)

    def heard(self, instance: str, now: float) -> None:
        """Its lease came."""
        self._heard_at[instance] = now

    def restart(self) -> None:
        """Nobody could be heard until now: all begin again."""
        self._since.clear()
        self._heard_at.clear()

    def is_live(self, instance: str, now: float) -> bool:
        """Whether it speaks, or may still be starting."""
        since = self._since.setdefault(instance, now)
        heard_at = self._heard_at.get(instance)
        return now - since < ATTEST_WITHIN_S if heard_at is None else now - heard_at < LIVE_S

    def overdue(self, attested: dict[str, bool], now: float) -> list[str]:
        """Those of the given sidecars that are gone for good; forgets those that are not given."""
        self._since = {name: self._since.get(name, now) for name in attested}
        self._heard_at = {name: at for name, at in self._heard_at.items() if name in attested}
        return [
            name
            for name, is_attested in attested.items()
            if now - self._heard_at.get(name, self._since[name])
            > (ABSENT_S if is_attested else ATTEST_WITHIN_S)
        ]


@dataclass(frozen=True, slots=True)
class Admission:
    """What the controller does for sidecars as it does for its actors."""

    push_users: Callable[[], Awaitable[None]]
    tell_cas: Callable[..., Awaitable[None]]
    check_attestation: Callable[[Member, tuple[bytes, ...]], None]
    remove: Callable[[str], Awaitable[None]]
    ray_nodes: Callable[[], Collection[str]]
    write_letter: Callable[[bytes], bytes]


class Sidecars:
    """Answers the gateways' questions about sidecars, unless ``refusal`` says why there may be none.

    Runs on the controller's loop, which makes the use of a token one step: nothing else runs between looking
    at it and having stored that it is used.
    """

    def __init__(
        self,
        inventory: Inventory,
        keys: MeshKeys,
        trust_domain: str,
        address: BrokerAddress,
        admission: Admission,
        refusal: str = "",
    ) -> None:
        self._inventory = inventory
        self._keys = keys
        self._trust_domain = trust_domain
        self._address = address
        self._admission = admission
        self._refusal = refusal
        self._presence = Presence()
        self._bus: Bus | None = None
        self._admitting = asyncio.Lock()

    async def start(self, bus: Bus) -> None:
        """Answer from now on."""
        self._bus = bus
        bus.on_reconnect(self._presence.restart)
        await bus.subscribe(subjects.every("lease"), self._heard_lease)
        if self._refusal:
            return
        await bus.serve(subjects.control("token"), self._answer_token)
        await bus.serve(subjects.control("join"), self._answer_join)
        await bus.serve(subjects.control("attest"), self._answer_attest)
        await bus.serve(subjects.control("session"), self._answer_session)
        await bus.serve(subjects.control("leave"), self._answer_leave)

    def overdue(self, now: float) -> list[str]:
        """Sidecars to remove; none while nobody can be heard."""
        if self._bus is None or not self._bus.connected:
            self._presence.restart()
        return self._presence.overdue({one.instance: one.attested for one in self._members()}, now)

    def _members(self) -> list[Member]:
        return [one for one in self._inventory.members.values() if one.account]

    def _heard_lease(self, message: Message) -> None:
        instance = subjects.last_token(message.subject)
        if instance in self._inventory.members:
            self._presence.heard(instance, time.monotonic())

    async def _answer_token(self, message: Message) -> bytes:
        request = messages.decode(messages.TokenRequest, message.data)
        self._inventory.tokens.add(request.token_sha256, request.account, request.ttl_s, time.time())
        self._inventory.save()
        return messages.encode(messages.ControlReply(__version__))

    async def _answer_join(self, message: Message) -> bytes:
        request = messages.decode(messages.JoinRequest, message.data)
        is_known = request.token_sha256 in self._inventory.tokens.tokens
        try:
            self._inventory.tokens.redeem(request.token_sha256, request.account, time.time())
        finally:
            if is_known:  # else nothing changed: a guess must not cost a write to disk
                self._inventory.save()
        letter = self._admission.write_letter(request.letterbox)
        async with self._admitting:
            await self._free_node(request)
            member = self._new_member(request)
            self._inventory.members[member.instance] = member
        await self._admission.push_users()
        await self._admission.tell_cas("register_proxy", member.instance, member.registration())
        return messages.encode(
            messages.JoinReply(
                proxy=member.instance,
                broker_url=self._address.url,
                trust_domain=self._trust_domain,
                root_der=self._keys.root_der,
                compiled_public=self._keys.compiled_public,
                embedded=self._address.embedded,
                ca_pem="" if self._address.embedded else self._address.ca_pem,
                letter=letter,
            )
        )

    async def _answer_attest(self, message: Message) -> bytes:
        request = messages.decode(messages.SidecarRequest, message.data)
        member = self._of_session(request)
        self._admission.check_attestation(member, request.chain)
        self._inventory.members[member.instance] = replace(member, attested=True)
        await self._admission.push_users()
        return _reply(member)

    async def _answer_session(self, message: Message) -> bytes:
        return _reply(self._of_session(messages.decode(messages.SidecarRequest, message.data)))

    async def _answer_leave(self, message: Message) -> bytes:
        member = self._of_session(messages.decode(messages.SidecarRequest, message.data))
        await self._admission.remove(member.instance)
        return _reply(member)

    async def _free_node(self, request: messages.JoinRequest) -> None:
        """A node has one sidecar; one that is not heard of any more gives way to its own successor."""
        check_node_name(request.node)
        now = time.monotonic()
        for other in [one for one in self._members() if one.node == request.node]:
            if other.account != request.account or self._presence.is_live(other.instance, now):
                raise Conflict(
                    f"node {request.node} is taken by the sidecar {other.instance}: choose another --node"
                )
            await self._admission.remove(other.instance)
        if request.node in self._admission.ray_nodes():
            raise Conflict(f"node {request.node} is a node of Ray: choose another --node")

    def _new_member(self, request: messages.JoinRequest) -> Member:
        if not is_user_key(request.nkey) or len(request.identity_key_sha256) != 32:
            raise PeerError(
                "a sidecar joins with the public nkey (U...) of its own and the SHA-256 of its key"
            )
        identity_key = request.identity_key_sha256.hex()
        for other in self._inventory.members.values():
            if request.nkey == other.nkey_public or identity_key == other.identity_key_sha256:
                raise PeerError("a sidecar joins with keys of its own: these are registered already")
        return Member(
            role="proxy",
            index=0,
            node=request.node,
            instance=sidecar_proxy(request.node, secrets.token_hex(3)),
            nkey_public=request.nkey,
            attested=False,
            identity_key_sha256=identity_key,
            account=request.account,
            session_sha256=request.session_sha256,
        )

    def _of_session(self, request: messages.SidecarRequest) -> Member:
        for member in self._members():
            if hmac.compare_digest(member.session_sha256, request.session_sha256):
                return member
        raise Unauthenticated(
            "the mesh knows no such sidecar: it left, or was not heard of for too long; join with a new token"
        )


def check_node_name(node: str) -> None:
    """Refuse what cannot name a sidecar's node.

    Raises:
        ConfigError: it has another form than ``sidecar-...`` of letters, digits, ``-`` and ``_``.
    """
    subjects.token(node)
    if not node.startswith(SIDECAR_PREFIX) or len(node) > MOST_NODE_LENGTH:
        raise ConfigError(
            f"{node} cannot name a sidecar's node: it begins with {SIDECAR_PREFIX} and has at most"
            f" {MOST_NODE_LENGTH} characters"
        )


def _reply(member: Member) -> bytes:
    return messages.encode(messages.SidecarReply(member.instance, member.node, member.account))
