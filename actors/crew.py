"""The actors of a mesh, from their start over their admission to their end. The broker is none of them.

An actor makes its keys, the controller writes their public halves into the broker's user list, then
the actor connects. A proxy gets its identity first; only with that it gets its full rights.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from ray.actor import ActorHandle

from ray_mesh import __version__
from ray_mesh.actors import placement
from ray_mesh.actors.announcing import Announcing
from ray_mesh.actors.fleet import CONTROL_ROLES, Fleet, Place
from ray_mesh.actors.inventory import Member
from ray_mesh.actors.messaging import Messaging
from ray_mesh.actors.placement import PING_TIMEOUT_S, START_ERRORS, RayNode
from ray_mesh.actors.premises import Premises
from ray_mesh.actors.settings import Description, Prepared
from ray_mesh.errors import PeerError
from ray_mesh.security.bundle import Bundle
from ray_mesh.security.ca import public_key_sha256
from ray_mesh.security.registrations import proxy_identity
from ray_mesh.security.svid import verify_svid

log = logging.getLogger(__name__)

RETIRE_TIMEOUT_S = 15.0
RENEW_PAUSE_S = 2.0


class Crew:
    """``fleet`` decides which actors there are; ``pids`` and ``outdated`` (those of an earlier version that
    are still to be replaced) are for people."""

    def __init__(
        self, premises: Premises, fleet: Fleet, messaging: Messaging, announcing: Announcing
    ) -> None:
        self.fleet = fleet
        self.handles: dict[str, ActorHandle[Any]] = {}
        self.pids: dict[str, int] = {}
        self.outdated: list[str] = []
        self._premises = premises
        self._members = premises.inventory.members
        self._messaging = messaging
        self._announcing = announcing
        self._serve_locks: dict[str, asyncio.Lock] = {}

    # Beginning.

    async def adopt(self) -> None:
        """Take over the healthy actors of an earlier controller; end the others.

        Those of another version serve until they are replaced, one by one.
        """
        for member in [one for one in self._members.values() if one.is_actor]:
            handle = await placement.find(member.instance, self._premises.options.namespace)
            described = await placement.describe(handle) if handle is not None else None
            if handle is not None and described is not None:
                self.pids[member.instance] = described.pid
                if described.healthy and member.role != "controller":
                    self.handles[member.instance] = handle
                    place = Place(member.role, member.index, member.node)
                    self.fleet.adopt(place, member.instance, time.monotonic())
                    if described.version != __version__:
                        self.outdated.append(member.instance)
                    continue
            del self._members[member.instance]
            if handle is not None:
                await placement.end(handle, politely=False)

    async def start(self, place: Place, instance: str, node: RayNode) -> None:
        """Start an actor and admit it; the fleet hears how that went."""
        try:
            handle = placement.create(self._premises.settings(place.role, instance, node), node)
            # Known before it answers: when its node leaves meanwhile, it is ended with its place.
            self.handles[instance] = handle
            prepared: Prepared = await handle.prepare.remote()
            member = Member(
                place.role,
                place.index,
                place.node,
                instance,
                prepared.nkey_public,
                attested=place.role != "proxy",
                identity_key_sha256=prepared.identity_key_sha256.hex(),
            )
            self._members[instance] = member
            await self._messaging.push_users()
            if place.role == "proxy":
                credential = self._messaging.write_letter(prepared.letterbox)
                await self._admit_proxy(member, handle, credential)
            else:
                await self._admit_role(member, handle)
        except START_ERRORS as error:
            log.warning("%s did not start: %s", instance, error)
            await self.replace(instance)
            return
        self.fleet.is_healthy(instance, time.monotonic())

    async def _admit_role(self, member: Member, handle: ActorHandle[Any]) -> None:
        if member.role == "ca":
            for proxy in [one for one in self._members.values() if one.role == "proxy"]:
                await handle.register_proxy.remote(proxy.instance, proxy.registration())
        description: Description = await handle.start.remote(self._messaging.address)
        self.pids[member.instance] = description.pid
        if member.role == "gateway":
            self._announcing.tell_shared(self._premises.options.nats)

    async def _admit_proxy(self, member: Member, handle: ActorHandle[Any], credential: bytes) -> None:
        """Let it get its identity first; only with that it gets the full credential."""
        inbound_ports = self._premises.inventory.inbound_ports
        await self.tell_cas("register_proxy", member.instance, member.registration())
        chain: tuple[bytes, ...] = await handle.attest.remote(self._messaging.address, credential)
        self.check_attestation(member, chain)
        self._members[member.instance] = replace(member, attested=True)
        await self._messaging.push_users()
        async with self._serve_locks.setdefault(member.node, asyncio.Lock()):
            port = inbound_ports.get(member.node, 0)
            offer = await self._offer_for(member)
            description: Description = await handle.serve.remote(port, offer)
            inbound_ports[member.node] = description.inbound_port
        self._premises.inventory.save()
        self.pids[member.instance] = description.pid

    async def _offer_for(self, member: Member) -> str:
        """The sockets of the proxy whose place this one takes, if there is one that can pass them on."""
        predecessor = self.fleet.running.get(Place(member.role, member.index, member.node))
        handle = self.handles.get(predecessor.instance) if predecessor else None
        if predecessor is None or predecessor.instance == member.instance or handle is None:
            return ""
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                return str(await handle.offer.remote())
        except (AttributeError, *START_ERRORS) as error:
            log.warning("%s passes no sockets on: %s", predecessor.instance, error)
            return ""

    def check_attestation(self, member: Member, chain: tuple[bytes, ...]) -> None:
        """A proxy shows the certificate that it got. Raises PeerError when it is not its own."""
        trust_domain = self._premises.options.trust_domain
        bundle = Bundle.from_der(trust_domain, [self._premises.keys.root_der])
        identity = verify_svid(chain, {bundle.trust_domain: bundle}, time.time())
        expected = proxy_identity(trust_domain, member.instance)
        key = x509.load_der_x509_certificate(chain[0]).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        if identity != expected or public_key_sha256(key).hex() != member.identity_key_sha256:
            raise PeerError(f"{member.instance} shows the certificate of {identity}")

    async def tell_cas(self, method: str, *args: Any) -> None:
        """Call a method of every CA actor; one that does not answer learns it when it starts."""
        handles = [
            self.handles[one.instance] for one in self.fleet.members("ca") if one.instance in self.handles
        ]
        calls = (getattr(handle, method).remote(*args) for handle in handles)
        await asyncio.gather(*calls, return_exceptions=True)

    # Replacing and ending.

    async def renew(self) -> None:
        """Replace what is of an earlier version: the control roles, then one proxy of each node at a time."""
        by_lane: dict[str, list[str]] = {}
        for instance in self.outdated:
            member = self._members[instance]
            by_lane.setdefault(member.node if member.role == "proxy" else "", []).append(instance)
        order = list(CONTROL_ROLES)
        control = by_lane.pop("", [])
        await self._renew_lane(sorted(control, key=lambda name: order.index(self._members[name].role)))
        await asyncio.gather(*(self._renew_lane(lane) for lane in by_lane.values()))

    async def _renew_lane(self, lane: list[str]) -> None:
        for instance in lane:
            log.warning("replacing %s of an earlier version", instance)
            if not await self.replace_politely(instance):
                lane.append(instance)
                await asyncio.sleep(RENEW_PAUSE_S)
                continue
            self.outdated.remove(instance)

    async def replace(self, instance: str) -> None:
        """End an actor that is dead or as good as that; the fleet wants another in its place."""
        self.fleet.is_dead(instance, time.monotonic())
        await self.end(instance)

    async def replace_politely(self, instance: str) -> bool:
        """Start the successor of an actor, let it take over, and end the actor after that.

        True: the actor is gone or about to go. False: its successor did not start, and it serves on.
        """
        started = self.fleet.succeed(instance, time.monotonic())
        if started is None:
            return all(one.instance != instance for one in self.fleet.running.values())
        await self.start(started.place, started.instance, self._premises.nodes[started.place.node])
        now_there = self.fleet.running.get(started.place)
        if now_there is None or now_there.instance != started.instance:
            return False
        await self.retire(instance)
        return True

    async def retire(self, instance: str) -> None:
        """End an actor when it has given up its work, or does not do so in time."""
        handle = self.handles.get(instance)
        if handle is not None:
            try:
                async with asyncio.timeout(RETIRE_TIMEOUT_S):
                    await _end_of_work(handle).remote()
            except START_ERRORS as error:
                log.warning("%s did not end by itself: %s", instance, type(error).__name__)
        await self.end(instance)

    async def end(self, instance: str) -> None:
        """Take away its credential and identity, then the process."""
        handle = self.handles.pop(instance, None)
        member = self._members.pop(instance, None)
        self.pids.pop(instance, None)
        self._announcing.forget(instance)
        if member is not None:
            await self._messaging.push_users()
            if member.role == "proxy":
                await self.tell_cas("forget_proxy", instance)
        if handle is not None:
            await placement.end(handle, politely=False)

    async def end_all(self) -> None:
        """Take the mesh down: each is asked to stop, then ended."""
        await asyncio.gather(*(placement.end(one, politely=True) for one in list(self.handles.values())))

    def missing(self) -> list[str]:
        """The roles that have not enough healthy actors, and how many."""
        wanted = self.fleet.replicas
        rows = [(role, getattr(wanted, role)) for role in CONTROL_ROLES]
        rows.append(("proxy", wanted.proxies * len(self._premises.nodes)))
        missing = []
        for role, count in rows:
            healthy = sum(one.state == "HEALTHY" for one in self.fleet.members(role))
            if healthy < count:
                missing.append(f"{role} ({healthy} of {count})")
        return missing


def _end_of_work(handle: ActorHandle[Any]) -> Any:
    """``retire`` of a proxy, which waits for its clients, or the ``stop`` that every role has."""
    return getattr(handle, "retire", None) or handle.stop
