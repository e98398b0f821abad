"""MeshController: brings the mesh up, replaces what dies, takes it down.

It alone admits connections to the broker. Traffic and configuration do not need the controller: when it
is away, only starting and replacing actors waits. :mod:`.control` is its loop, :mod:`.crew` has its
actors, :mod:`.messaging` its broker.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import replace
from typing import Any

import ray

from ray_mesh import __version__
from ray_mesh.actors import placement
from ray_mesh.actors.control import Control
from ray_mesh.actors.inventory import Inventory
from ray_mesh.actors.premises import Premises, broker_addresses
from ray_mesh.actors.secrets import StateDir
from ray_mesh.actors.settings import Description, MeshOptions, Replicas
from ray_mesh.bus import messages, subjects
from ray_mesh.bus.client import Bus, Message
from ray_mesh.errors import ConfigError, Unavailable
from ray_mesh.gateway.listening import reserve

log = logging.getLogger(__name__)

RESUME_PAUSE_S = 1.0
LOCK_TIMEOUT_S = 5.0
"""A controller that Ray restarts may begin before the one that died has gone."""


class MeshController:
    """The one actor that owns all others. Detached; Ray restarts it."""

    def __init__(self, options: MeshOptions) -> None:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._options = options
        self._state_dir = StateDir(options.state_dir)
        self._started = asyncio.Lock()
        self._control: Control | None = None
        self._down = asyncio.Event()
        self._lock: int | None = None
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
            if self._runs:
                return
            if self._control is not None:  # of a start that failed
                await self._control.messaging.close()
            premises = await self._enter()
            self._hold_api_port(premises.inventory)
            control = self._control = Control(premises)
            await self._serve(await control.start())

    async def _enter(self) -> Premises:
        """What is there of the mesh, with the lock on its folder."""
        options = self._options
        head = placement.node_name(ray.get_runtime_context().get_node_id())
        nodes = await placement.live_nodes(options.bind_address)
        if self._lock is None:
            self._lock = await asyncio.to_thread(self._state_dir.lock, LOCK_TIMEOUT_S)
        keys = self._state_dir.create(options.trust_domain, broker_addresses(nodes[head]), options.api)
        inventory = Inventory.load(options.state_dir / "actors.json")
        return Premises(options, self._state_dir, keys, inventory, head, nodes)

    async def _serve(self, bus: Bus) -> None:
        await bus.serve(subjects.control("status"), self._answer_status)
        await bus.serve(subjects.control("down"), self._answer_down)
        await bus.serve(subjects.control("observe"), self._answer_observe)

    @property
    def _runs(self) -> bool:
        return self._control is not None and self._control.runs

    async def _running(self) -> Control:
        await self.start()
        assert self._control is not None
        return self._control

    async def wait_ready(self, timeout_s: float) -> Description:
        """Wait until every place has a healthy actor; then it has the API's port.

        Raises:
            Unavailable: not everything came up in time; the message says what did not.
        """
        deadline = time.monotonic() + timeout_s
        crew = (await self._running()).crew
        while time.monotonic() < deadline:
            if not crew.missing():
                return await self.describe()
            await asyncio.sleep(0.05)
        raise Unavailable(f"after {timeout_s:.0f} s still not up: {', '.join(crew.missing())}")

    async def describe(self) -> Description:
        """The version handshake, and where the mesh keeps its state."""
        return Description(
            "controller",
            self._options.name,
            __version__,
            os.getpid(),
            self._runs,
            api_port=self._control.premises.inventory.api_port if self._control and self._runs else 0,
            node=placement.node_name(ray.get_runtime_context().get_node_id()),
            state_dir=str(self._options.state_dir),
        )

    async def wait_down(self) -> None:
        """Return when the mesh was taken down."""
        await self._down.wait()

    async def down(self) -> None:
        """Stop every actor, the broker last. What is left on a NATS that is not ours is only what is kept."""
        control = self._control
        if control is not None:
            await control.stop()
            await control.crew.end_all()
            await control.messaging.close(leaves=control.runs)
            if control.messaging.broker is not None:
                await placement.end(control.messaging.broker, politely=True)
        if self._lock is not None:
            await asyncio.to_thread(self._forget)
        self._down.set()

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
        control = await self._running()
        await control.stop()
        control.premises.inventory.save()
        await control.messaging.close()
        self._api_socket.close()
        if self._lock is not None:
            os.close(self._lock)
        return (await self.options()).to_plain()

    async def outdated(self) -> list[str]:
        """The actors of an earlier version that are still to be replaced."""
        return list(self._control.crew.outdated) if self._control is not None else []

    async def options(self) -> MeshOptions:
        """What this mesh was started with, as far as it was not scaled since."""
        return replace(self._options, replicas=(await self._running()).fleet.replicas)

    async def scale(self, roles: int | None, proxies: int | None) -> None:
        """Run so many of each control role, and proxies per node, from now on (None: as many as now).

        A controller that Ray restarts keeps to it.
        """
        control = await self._running()
        now, inventory = control.fleet.replicas, control.premises.inventory
        control.fleet.replicas = inventory.replicas = Replicas.uniform(
            roles or now.ca, proxies or now.proxies
        )
        inventory.save()

    async def status(self) -> messages.ControlReply:
        """All actors with their state."""
        return (await self._running()).status()

    def _hold_api_port(self, inventory: Inventory) -> None:
        """Bind the API's port without listening, so that it stays ours while gateways come and go."""
        self._api_socket = reserve(self._options.api.host, inventory.api_port or self._options.api_port)
        inventory.api_port = self._api_socket.getsockname()[1]

    async def _answer_status(self, message: Message) -> bytes:
        return messages.encode(await self.status())

    async def _answer_down(self, message: Message) -> bytes:
        reply = messages.encode(await self.status())
        asyncio.get_running_loop().call_later(0.1, self._begin_down)
        return reply

    async def _answer_observe(self, message: Message) -> bytes:
        request = messages.decode(messages.ControlRequest, message.data)
        control = await self._running()
        address = control.messaging.address
        if not address.embedded:
            raise ConfigError(
                f"{address.url} is not the mesh's own NATS and admits nobody by our word: its"
                " administrator makes a user with the rights of an observer (docs/nats.md)"
            )
        control.premises.inventory.put_observer(request.name, request.nkey)
        await control.messaging.push_users()
        return messages.encode(messages.ControlReply(__version__))

    def _begin_down(self) -> None:
        self._down_task = asyncio.create_task(self._leave())

    async def _leave(self) -> None:
        """Nobody else may be there to end the controller itself."""
        await self.down()
        me = ray.get_runtime_context().current_actor
        await asyncio.to_thread(ray.kill, me, no_restart=True)
