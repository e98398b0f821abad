"""MeshController: brings the mesh up, replaces what dies, takes it down.

It alone admits connections to the broker. An actor makes its keys, the controller writes their
public halves into the broker's user list, then the actor connects. A NATS that is not ours has no such
list: roles read their credential from the state directory, proxies get theirs as a letter. Traffic and
configuration do not need the controller: when it is away, only starting and replacing actors waits.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import ray
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from ray.actor import ActorHandle
from ray.exceptions import RayError

from ray_mesh import __version__
from ray_mesh.actors import placement
from ray_mesh.actors.export import DesiredExport
from ray_mesh.actors.fleet import CONTROL_ROLES, Fleet, Place, StartActor, StopActor
from ray_mesh.actors.inventory import Inventory, Member
from ray_mesh.actors.placement import RayNode
from ray_mesh.actors.secrets import StateDir
from ray_mesh.actors.settings import (
    Description,
    MeshKeys,
    MeshOptions,
    Prepared,
    Replicas,
    RoleSettings,
    why_no_sidecars,
)
from ray_mesh.actors.sidecars import Admission, Sidecars
from ray_mesh.bus import messages, subjects
from ray_mesh.bus.client import Bus, Message
from ray_mesh.bus.credentials import BrokerAddress, Credential
from ray_mesh.bus.external import ExternalNats, make_buckets
from ray_mesh.bus.preflight import check_reading
from ray_mesh.bus.store import Entry, Owner, ensure_buckets, remove_buckets
from ray_mesh.errors import ConfigError, MeshError, PeerError, Unavailable
from ray_mesh.gateway.listening import reserve
from ray_mesh.security import letter
from ray_mesh.security.bundle import Bundle
from ray_mesh.security.ca import public_key_sha256
from ray_mesh.security.registrations import proxy_identity
from ray_mesh.security.svid import verify_svid

log = logging.getLogger(__name__)

TURN_S = 0.25
CERTIFICATES_S = 60.0
PING_S = 0.5
PING_TIMEOUT_S = 10.0
RETIRE_TIMEOUT_S = 15.0
RENEW_PAUSE_S = 2.0
RESUME_PAUSE_S = 1.0
LOCK_TIMEOUT_S = 5.0
"""A controller that Ray restarts may begin before the one that died has gone."""
RAY_AWAY = (
    "its GCS does not answer, so no actor can be started or replaced. Traffic and changes go on, but without "
    "GCS fault tolerance Ray ends every worker about 60 s after it was lost: start the GCS again where it is "
    "on, else expect to start Ray and the mesh again"
)
START_ERRORS = (RayError, MeshError, TimeoutError, OSError)
"""Of Ray's errors not only a dead actor: on a node that left, an actor cannot even be scheduled."""


class MeshController:
    """The one actor that owns all others. Detached; Ray restarts it."""

    def __init__(self, options: MeshOptions) -> None:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._options = options
        self._state_dir = StateDir(options.state_dir)
        self._started = asyncio.Lock()
        self._handles: dict[str, ActorHandle[Any]] = {}
        self._pings: dict[str, asyncio.Task[None]] = {}
        self._pinged_at: dict[str, float] = {}
        self._certify_at = 0.0
        self._jobs: set[asyncio.Task[None]] = set()
        self._serve_locks: dict[str, asyncio.Lock] = {}
        self._users_lock = asyncio.Lock()
        self._loop_task: asyncio.Task[None] | None = None
        self._pids: dict[str, int] = {}
        self._troubles: dict[str, str] = {}
        self._down = asyncio.Event()
        self._bus: Bus | None = None
        self._broker: ActorHandle[Any] | None = None
        self._address: BrokerAddress = BrokerAddress("", "")
        self._lock: int | None = None
        self._outdated: list[str] = []
        # After a restart by Ray nobody else calls start().
        context = ray.get_runtime_context()
        me = context.current_actor
        (me.resume if context.was_current_actor_reconstructed else me.start).remote()

    async def resume(self) -> None:
        """:meth:`start` after a restart, for as long as it takes: a NATS that is not ours may be away."""
        while True:
            try:
                await self.start()
                return
            except Exception:
                log.exception("the controller cannot start yet")
                await asyncio.sleep(RESUME_PAUSE_S)

    async def start(self) -> None:
        """Make or adopt everything; returns when the control loop runs. Repeated calls do nothing."""
        async with self._started:
            if self._loop_task is not None:
                return
            self._head = placement.node_name(ray.get_runtime_context().get_node_id())
            self._nodes = await placement.live_nodes(self._options.bind_address)
            if self._lock is None:
                self._lock = await asyncio.to_thread(self._state_dir.lock, LOCK_TIMEOUT_S)
            self._keys: MeshKeys = self._state_dir.create(
                self._options.trust_domain, self._broker_addresses(), self._options.api
            )
            self._inventory = Inventory.load(self._options.state_dir / "actors.json")
            self._outdated = []
            self._hold_api_port()
            self._fleet = Fleet(
                self._inventory.replicas or self._options.replicas, self._head, lambda: secrets.token_hex(3)
            )
            await self._adopt_actors()
            await self._start_broker()
            self._loop_task = asyncio.create_task(self._reconcile(), name="reconcile")
            self._do(self._renew())

    def _broker_addresses(self) -> list[str]:
        return sorted({"127.0.0.1", self._head_node.address})

    async def _keep_certified(self) -> None:
        """Renew the intermediate and the servers' certificates in time; the CA actors read it again."""
        try:
            if self._state_dir.renew(self._broker_addresses(), self._options.api, time.time()):
                if self._broker is not None:
                    await self._broker.renew.remote()
                self._report("info", "ca_renewed", "a new intermediate certificate signs from now on")
        except (MeshError, RayError, OSError) as error:
            self._report("error", "ca_not_renewed", f"{error}; it is tried again")

    async def wait_ready(self, timeout_s: float) -> Description:
        """Wait until every place has a healthy actor; then it has the API's port.

        Raises:
            Unavailable: not everything came up in time; the message says what did not.
        """
        deadline = time.monotonic() + timeout_s
        await self.start()
        while time.monotonic() < deadline:
            missing = self._missing()
            if not missing:
                return await self.describe()
            await asyncio.sleep(0.05)
        raise Unavailable(f"after {timeout_s:.0f} s still not up: {', '.join(self._missing())}")

    async def describe(self) -> Description:
        """The version handshake, and where the mesh keeps its state."""
        return Description(
            "controller",
            self._options.name,
            __version__,
            os.getpid(),
            self._loop_task is not None,
            api_port=self._inventory.api_port if self._loop_task else 0,
            node=placement.node_name(ray.get_runtime_context().get_node_id()),
            state_dir=str(self._options.state_dir),
        )

    async def wait_down(self) -> None:
        """Return when the mesh was taken down."""
        await self._down.wait()

    async def down(self) -> None:
        """Stop every actor, the broker last. What is left on a NATS that is not ours is only what is kept."""
        if self._loop_task is not None:
            self._loop_task.cancel()
            await asyncio.gather(self._loop_task, *self._jobs, return_exceptions=True)
        handles = list(self._handles.values())
        await asyncio.gather(*(placement.end(handle, politely=True) for handle in handles))
        if self._bus is not None:
            if self._loop_task is not None:
                await self._export.stop()
                await self._leave_nats(self._bus)
            await self._bus.close()
        if self._broker is not None:
            await placement.end(self._broker, politely=True)
        if self._lock is not None:
            await asyncio.to_thread(self._forget)
        self._down.set()

    async def _leave_nats(self, bus: Bus) -> None:
        if self._options.nats is None or self._options.keep_state:
            return
        try:
            await remove_buckets(bus, self._owner)
        except MeshError as error:
            log.error("buckets are left at %s: %s", self._options.nats.url, error)

    def _forget(self) -> None:
        """The folder is ours only with the lock."""
        if not self._options.keep_state:
            self._state_dir.remove()
        self._state_dir.state_file.unlink(missing_ok=True)

    async def hand_over(self) -> dict[str, Any]:
        """Let go of everything but the actors, for a controller of a newer version to take them over.

        Returns the options of the mesh, as :meth:`MeshOptions.to_plain`. Nothing is replaced from now on
        until that controller runs.
        """
        await self.start()
        assert self._loop_task is not None
        self._loop_task.cancel()
        await asyncio.gather(self._loop_task, *self._jobs, return_exceptions=True)
        self._inventory.save()
        if self._bus is not None:
            await self._export.stop()
            await self._bus.close()
        self._api_socket.close()
        if self._lock is not None:
            os.close(self._lock)
        return (await self.options()).to_plain()

    async def outdated(self) -> list[str]:
        """The actors of an earlier version that are still to be replaced."""
        return list(self._outdated)

    async def options(self) -> MeshOptions:
        """What this mesh was started with, as far as it was not scaled since."""
        return replace(self._options, replicas=self._fleet.replicas)

    async def scale(self, roles: int | None, proxies: int | None) -> None:
        """Run so many of each control role, and proxies per node, from now on (None: as many as now).

        A controller that Ray restarts keeps to it.
        """
        await self.start()
        now = self._fleet.replicas
        self._fleet.replicas = Replicas.uniform(roles or now.ca, proxies or now.proxies)
        self._inventory.replicas = self._fleet.replicas
        self._inventory.save()

    async def status(self) -> messages.ControlReply:
        """All actors with their state."""
        actors = [
            messages.ActorStatus(
                role=place.role,
                name=one.instance,
                node=place.node,
                state=one.state,
                pid=self._pids.get(one.instance, 0),
                restarts=self._fleet.restarts.get(place, 0),
            )
            for place, one in sorted(self._fleet.running.items())
        ]
        mine = messages.ActorStatus("controller", "controller", self._head, "HEALTHY", os.getpid(), 0)
        return messages.ControlReply(
            __version__,
            (mine, *self._broker_status(), *actors),
            tuple(sorted(self._nodes)),
            warnings=self._options.nats.shared() if self._options.nats else (),
            problems=tuple(f"{instance}: {trouble}" for instance, trouble in sorted(self._troubles.items())),
        )

    def _broker_status(self) -> tuple[messages.ActorStatus, ...]:
        if self._broker is None:
            return ()
        pid = self._pids.get(self._broker_name, 0)
        return (messages.ActorStatus("broker", self._broker_name, self._head, "HEALTHY", pid, 0),)

    @property
    def _broker_name(self) -> str:
        return "broker"

    def _missing(self) -> list[str]:
        wanted = self._fleet.replicas
        rows = []
        for role in ("ca", "routing", "policy", "telemetry", "gateway"):
            rows.append((role, getattr(wanted, role)))
        rows.append(("proxy", wanted.proxies * len(self._nodes)))
        missing = []
        for role, count in rows:
            healthy = sum(one.state == "HEALTHY" for one in self._fleet.members(role))
            if healthy < count:
                missing.append(f"{role} ({healthy} of {count})")
        return missing

    def _hold_api_port(self) -> None:
        """Bind the API's port without listening, so that it stays ours while gateways come and go."""
        port = self._inventory.api_port or self._options.api_port
        self._api_socket = reserve(self._options.api.host, port)
        self._inventory.api_port = self._api_socket.getsockname()[1]

    async def _adopt_actors(self) -> None:
        """Take over the healthy actors of an earlier controller; end the others.

        Those of another version serve until they are replaced, one by one.
        """
        for member in [one for one in self._inventory.members.values() if one.is_actor]:
            handle = await placement.find(member.instance, self._options.namespace)
            version = await self._healthy_version(handle) if handle is not None else ""
            if handle is not None and version and member.role != "controller":
                self._handles[member.instance] = handle
                place = Place(member.role, member.index, member.node)
                self._fleet.adopt(place, member.instance, time.monotonic())
                if version != __version__:
                    self._outdated.append(member.instance)
                continue
            del self._inventory.members[member.instance]
            if handle is not None:
                await placement.end(handle, politely=False)

    async def _healthy_version(self, handle: ActorHandle[Any]) -> str:
        """The version of an actor that is there and healthy, else nothing."""
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                description = await handle.describe.remote()
        except START_ERRORS:
            return ""
        self._pids[description.instance] = description.pid
        return str(description.version) if description.healthy else ""

    async def _renew(self) -> None:
        """Replace what is of an earlier version: the control roles, then one proxy of each node at a time."""
        by_lane: dict[str, list[str]] = {}
        for instance in self._outdated:
            member = self._inventory.members[instance]
            by_lane.setdefault(member.node if member.role == "proxy" else "", []).append(instance)
        order = list(CONTROL_ROLES)
        control = by_lane.pop("", [])
        await self._renew_lane(
            sorted(control, key=lambda name: order.index(self._inventory.members[name].role))
        )
        await asyncio.gather(*(self._renew_lane(lane) for lane in by_lane.values()))

    async def _renew_lane(self, lane: list[str]) -> None:
        for instance in lane:
            log.warning("replacing %s of an earlier version", instance)
            if not await self.replace_politely(instance):
                lane.append(instance)
                await asyncio.sleep(RENEW_PAUSE_S)
                continue
            self._outdated.remove(instance)

    async def _start_broker(self) -> None:
        nats = self._options.nats
        if self._bus is not None:  # of a start that failed
            await self._bus.close()
        self._bus = bus = await (self._join_nats(nats) if nats else self._start_own_broker())
        self._export = DesiredExport(
            self._state_dir.desired_export,
            self._state_dir.signing_key("admission"),
            self._report,
            self._ensure_buckets,
        )
        await self._export.start(bus)
        if nats and nats.has_proxy_login and not self._inventory.members:
            await check_reading(nats, self._state_dir.login("proxies"))
        await bus.serve(subjects.control("status"), self._answer_status)
        await bus.serve(subjects.control("down"), self._answer_down)
        await bus.serve(subjects.control("observe"), self._answer_observe)
        self._sidecars: Sidecars = Sidecars(
            self._inventory,
            self._keys,
            self._options.trust_domain,
            self._address,
            Admission(
                push_users=self._push_users,
                tell_cas=self._tell_cas,
                check_attestation=self._check_attestation,
                remove=self._end_actor,
                ray_nodes=lambda: self._nodes,
                write_letter=self._write_letter,
            ),
            refusal=why_no_sidecars(self._options),
        )
        await self._sidecars.start(bus)

    async def _start_own_broker(self) -> Bus:
        credential = Credential.generate()
        instance = f"controller-{secrets.token_hex(3)}"
        self._inventory.members[instance] = Member("controller", 0, self._head, instance, credential.public)
        handle = await placement.find(self._broker_name, self._options.namespace)
        if handle is not None and await self._healthy_version(handle) != __version__:
            await placement.end(handle, politely=True)
            handle = None
        await self._run_broker(handle)
        self._inventory.save()
        return await Bus.connect(
            self._address, "controller", instance, credential, on_event=self._report_event
        )

    async def _join_nats(self, nats: ExternalNats) -> Bus:
        self._address = nats.address
        instance = f"controller-{secrets.token_hex(3)}"
        login = self._state_dir.login("control")
        return await Bus.connect(self._address, "controller", instance, login, on_event=self._report_event)

    async def _ensure_buckets(self, bus: Bus, desired: Sequence[Entry]) -> bool:
        nats = self._options.nats
        if nats is None:
            return await ensure_buckets(bus, desired=desired)
        return await make_buckets(bus, nats, self._owner, desired)

    @property
    def _owner(self) -> Owner:
        return Owner(self._options.name, self._keys.admission_public)

    def _tell_shared(self) -> None:
        """A gateway that starts has heard no event yet."""
        nats = self._options.nats
        for sentence in nats.shared() if nats else ():
            self._report("warning", "nats_shared", sentence)

    def _write_letter(self, letterbox: bytes) -> bytes:
        """The proxies' credential, for one of them; nothing where the broker admits each by its own key."""
        if self._address.embedded:
            return b""
        return letter.write(letterbox, self._state_dir.login("proxies").reveal())

    async def _run_broker(self, running: ActorHandle[Any] | None = None) -> None:
        self._broker = running or placement.create(
            self._settings("broker", self._broker_name), self._head_node
        )
        self._address = await self._broker.start.remote(self._inventory.users())

    @property
    def _broker_actor(self) -> ActorHandle[Any]:
        assert self._broker is not None, "start() comes first"
        return self._broker

    @property
    def _head_node(self) -> RayNode:
        return self._nodes[self._head]

    def _settings(self, role: str, instance: str, node: RayNode | None = None) -> RoleSettings:
        node = node or self._head_node
        return RoleSettings(
            role=role,
            instance=instance,
            node=node.name,
            node_address=node.address,
            options=self._options,
            keys=self._keys,
            api_port=self._inventory.api_port,
        )

    async def _answer_status(self, message: Message) -> bytes:
        return messages.encode(await self.status())

    async def _answer_down(self, message: Message) -> bytes:
        reply = messages.encode(await self.status())
        asyncio.get_running_loop().call_later(0.1, self._begin_down)
        return reply

    async def _answer_observe(self, message: Message) -> bytes:
        request = messages.decode(messages.ControlRequest, message.data)
        if not self._address.embedded:
            raise ConfigError(
                f"{self._address.url} is not the mesh's own NATS and admits nobody by our word: its"
                " administrator makes a user with the rights of an observer (docs/nats.md)"
            )
        self._inventory.put_observer(request.name, request.nkey)
        await self._push_users()
        return messages.encode(messages.ControlReply(__version__))

    def _begin_down(self) -> None:
        self._down_task = asyncio.create_task(self._leave())

    async def _leave(self) -> None:
        """Nobody else may be there to end the controller itself."""
        await self.down()
        me = ray.get_runtime_context().current_actor
        await asyncio.to_thread(ray.kill, me, no_restart=True)

    async def _reconcile(self) -> None:
        while True:
            try:
                await self._turn()
            except Exception:
                log.exception("control loop")
            await asyncio.sleep(TURN_S)

    async def _turn(self) -> None:
        now = time.monotonic()
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                self._nodes = await placement.live_nodes(self._options.bind_address)
            self._note_trouble("Ray", "")
        except TimeoutError:
            self._note_trouble("Ray", RAY_AWAY)
        for instruction in self._fleet.plan(list(self._nodes), now):
            match instruction:
                case StartActor(place, instance):
                    self._do(self._start_actor(place, instance, self._nodes[place.node]))
                case StopActor(place, instance, reason):
                    log.warning("ending %s: %s", instance, reason)
                    has_node = place.node in self._nodes
                    self._do(self._retire(instance) if has_node else self._end_actor(instance))
        for one in list(self._fleet.running.values()):
            if one.state == "HEALTHY":
                self._ping(one.instance, self._handles[one.instance], now)
        if self._broker is not None:
            self._ping(self._broker_name, self._broker, now)
        if now >= self._certify_at:
            self._certify_at = now + CERTIFICATES_S
            self._do(self._keep_certified())
        for instance in self._sidecars.overdue(now):
            log.warning("removing the sidecar %s: it was not heard of for too long", instance)
            self._do(self._end_actor(instance))

    def _do(self, coroutine: Any) -> None:
        task = asyncio.create_task(coroutine)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    def _ping(self, instance: str, handle: ActorHandle[Any], now: float) -> None:
        due = now - self._pinged_at.get(instance, 0.0) >= PING_S
        if due and (instance not in self._pings or self._pings[instance].done()):
            self._pinged_at[instance] = now
            self._pings[instance] = asyncio.create_task(self._check(instance, handle))

    async def _check(self, instance: str, handle: ActorHandle[Any]) -> None:
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                description = await handle.describe.remote()
            self._pids[instance] = description.pid
            if description.healthy:
                self._note_trouble(instance, description.trouble)
                return
            why = f"is not healthy: {description.detail}"
        except TimeoutError:
            why = f"did not answer for {PING_TIMEOUT_S:g} s"
        except START_ERRORS as error:
            why = f"is gone ({type(error).__name__})"
        self._report("warning", "actor_replaced", f"{instance} {why}: it is ended, another takes its place")
        await self._replace(instance)

    def _report(self, severity: Literal["info", "warning", "error"], reason: str, message: str) -> None:
        """Tell people something."""
        self._report_event(messages.Event(time.time(), severity, reason, message, "controller"))

    def _report_event(self, event: messages.Event) -> None:
        log.warning("%s: %s", event.reason, event.message)
        if self._bus is not None:
            subject = subjects.event("controller", self._bus.instance)
            self._bus.publish(subject, messages.encode(event))

    def _note_trouble(self, instance: str, trouble: str) -> None:
        """Tell people of what an actor cannot mend by itself, and when it is over."""
        before = self._troubles.pop(instance, "")
        if trouble:
            self._troubles[instance] = trouble
        if trouble and not before:
            self._report("error", "trouble", f"{instance}: {trouble}")
        elif before and not trouble:
            self._report("info", "trouble_over", f"{instance}: it is over that {before}")

    async def _replace(self, instance: str) -> None:
        if instance == self._broker_name:
            await placement.end(self._broker_actor, politely=False)
            await self._run_broker()
            return
        self._fleet.is_dead(instance, time.monotonic())
        await self._end_actor(instance)

    async def replace_politely(self, instance: str) -> bool:
        """Start the successor of an actor, let it take over, and end the actor after that.

        True: the actor is gone or about to go. False: its successor did not start, and it serves on.
        """
        started = self._fleet.succeed(instance, time.monotonic())
        if started is None:
            return all(one.instance != instance for one in self._fleet.running.values())
        await self._start_actor(started.place, started.instance, self._nodes[started.place.node])
        now_there = self._fleet.running.get(started.place)
        if now_there is None or now_there.instance != started.instance:
            return False
        await self._retire(instance)
        return True

    async def _retire(self, instance: str) -> None:
        """End an actor when it has given up its work, or does not do so in time."""
        handle = self._handles.get(instance)
        if handle is not None:
            try:
                async with asyncio.timeout(RETIRE_TIMEOUT_S):
                    await _end_of_work(handle).remote()
            except START_ERRORS as error:
                log.warning("%s did not end by itself: %s", instance, type(error).__name__)
        await self._end_actor(instance)

    async def _end_actor(self, instance: str) -> None:
        """Take away its credential and identity, then the process."""
        handle = self._handles.pop(instance, None)
        member = self._inventory.members.pop(instance, None)
        self._pids.pop(instance, None)
        self._troubles.pop(instance, None)
        if member is not None:
            await self._push_users()
            if member.role == "proxy":
                await self._tell_cas("forget_proxy", instance)
        if handle is not None:
            await placement.end(handle, politely=False)

    async def _push_users(self) -> None:
        async with self._users_lock:
            self._inventory.save()
            if self._broker is not None:
                await self._broker.set_users.remote(self._inventory.users())

    async def _tell_cas(self, method: str, *args: Any) -> None:
        handles = [
            self._handles[one.instance] for one in self._fleet.members("ca") if one.instance in self._handles
        ]
        calls = (getattr(handle, method).remote(*args) for handle in handles)
        await asyncio.gather(*calls, return_exceptions=True)

    async def _start_actor(self, place: Place, instance: str, node: RayNode) -> None:
        try:
            handle = placement.create(self._settings(place.role, instance, node), node)
            # Known before it answers: when its node leaves meanwhile, it is ended with its place.
            self._handles[instance] = handle
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
            self._inventory.members[instance] = member
            await self._push_users()
            if place.role == "proxy":
                await self._admit_proxy(member, handle, self._write_letter(prepared.letterbox))
            else:
                await self._admit_role(member, handle)
        except START_ERRORS as error:
            log.warning("%s did not start: %s", instance, error)
            self._fleet.is_dead(instance, time.monotonic())
            await self._end_actor(instance)
            return
        self._fleet.is_healthy(instance, time.monotonic())

    async def _admit_role(self, member: Member, handle: ActorHandle[Any]) -> None:
        if member.role == "ca":
            for proxy in [one for one in self._inventory.members.values() if one.role == "proxy"]:
                await handle.register_proxy.remote(proxy.instance, proxy.registration())
        description: Description = await handle.start.remote(self._address)
        self._pids[member.instance] = description.pid
        if member.role == "gateway":
            self._tell_shared()

    async def _admit_proxy(self, member: Member, handle: ActorHandle[Any], credential: bytes) -> None:
        """Let it get its identity first; only with that it gets the full credential."""
        await self._tell_cas("register_proxy", member.instance, member.registration())
        chain: tuple[bytes, ...] = await handle.attest.remote(self._address, credential)
        self._check_attestation(member, chain)
        self._inventory.members[member.instance] = replace(member, attested=True)
        await self._push_users()
        async with self._serve_locks.setdefault(member.node, asyncio.Lock()):
            port = self._inventory.inbound_ports.get(member.node, 0)
            offer = await self._offer_for(member)
            description: Description = await handle.serve.remote(port, offer)
            self._inventory.inbound_ports[member.node] = description.inbound_port
        self._inventory.save()
        self._pids[member.instance] = description.pid

    async def _offer_for(self, member: Member) -> str:
        """The sockets of the proxy whose place this one takes, if there is one that can pass them on."""
        predecessor = self._fleet.running.get(Place(member.role, member.index, member.node))
        handle = self._handles.get(predecessor.instance) if predecessor else None
        if predecessor is None or predecessor.instance == member.instance or handle is None:
            return ""
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                return str(await handle.offer.remote())
        except (AttributeError, *START_ERRORS) as error:
            log.warning("%s passes no sockets on: %s", predecessor.instance, error)
            return ""

    def _check_attestation(self, member: Member, chain: tuple[bytes, ...]) -> None:
        bundle = Bundle.from_der(self._options.trust_domain, [self._keys.root_der])
        identity = verify_svid(chain, {bundle.trust_domain: bundle}, time.time())
        expected = proxy_identity(self._options.trust_domain, member.instance)
        key = x509.load_der_x509_certificate(chain[0]).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        if identity != expected or public_key_sha256(key).hex() != member.identity_key_sha256:
            raise PeerError(f"{member.instance} shows the certificate of {identity}")


def _end_of_work(handle: ActorHandle[Any]) -> Any:
    """``retire`` of a proxy, which waits for its clients, or the ``stop`` that every role has."""
    return getattr(handle, "retire", None) or handle.stop
