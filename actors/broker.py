"""BrokerActor: runs the embedded nats-server as a child, and brings it back when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Mapping

from ray_mesh import __version__
from ray_mesh.actors.secrets import StateDir
from ray_mesh.actors.settings import Description, RoleSettings
from ray_mesh.bus.credentials import BrokerAddress
from ray_mesh.bus.permissions import Permissions
from ray_mesh.bus.server import BrokerOptions, BrokerServer
from ray_mesh.errors import MeshError, Unavailable
from ray_mesh.security.sealed import write_private

log = logging.getLogger(__name__)

RETRY_S = 0.2
PROBE_S = 1.0
SILENCES = 5
"""A server that greets nobody so many times in a row, each within a second, is stuck and is ended."""


class BrokerActor:
    """The same store, port and credentials over all restarts: they live in the state directory."""

    def __init__(self, settings: RoleSettings) -> None:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._settings = settings
        self._state_dir = StateDir(settings.options.state_dir)
        folder = self._state_dir.broker
        self._server = BrokerServer(
            BrokerOptions(
                store=folder / "store",
                cert_file=folder / "server.crt",
                key_file=folder / "server.key",
                host=settings.node_address,
            )
        )
        self._users: Mapping[str, Permissions] = {}
        self._watch: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[None] | None = None
        self.restarts = 0

    async def start(self, users: Mapping[str, Permissions]) -> BrokerAddress:
        """Start the server with these users (NKEY public -> permissions), or take them over."""
        self._users = users
        if self._watch is None:
            await self._server.start(users)
            self._watch = asyncio.create_task(self._keep(), name="nats-server")
            self._probe = asyncio.create_task(self._end_silent(), name="probe")
        else:
            await self._server.set_users(users)
        write_private(self._state_dir.broker / "url", self._server.url.encode())
        return BrokerAddress(self._server.url, self._state_dir.root_pem())

    async def set_users(self, users: Mapping[str, Permissions]) -> None:
        """Admit exactly these users; live connections of others are cut. While the server is being
        started again the new list is what it starts with."""
        self._users = users
        try:
            await self._server.set_users(users)
        except Unavailable as error:
            log.warning("the new users come with the restart: %s", error)

    async def describe(self) -> Description:
        """What this actor is and whether the server runs."""
        healthy = all(task is not None and not task.done() for task in (self._watch, self._probe))
        return Description(
            role="broker",
            instance=self._settings.instance,
            version=__version__,
            pid=os.getpid(),
            healthy=healthy,
            detail=f"nats-server pid {self._server.pid}, restarted {self.restarts} times",
        )

    async def renew(self) -> None:
        """Show new clients the broker's new certificate."""
        await self._server.renew()

    async def stop(self) -> None:
        """End the server."""
        for task in (self._probe, self._watch):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        await self._server.stop()

    async def _keep(self) -> None:
        while True:
            await self._server.wait_dead()
            self.restarts += 1
            log.warning("nats-server ended; starting it again")
            try:
                await self._server.start(self._users)
            except MeshError as error:
                log.error("nats-server does not start: %s", error)
                await asyncio.sleep(RETRY_S)

    async def _end_silent(self) -> None:
        silences = 0
        while True:
            await asyncio.sleep(PROBE_S)
            silences = 0 if not self._server.pid or await self._server.answers() else silences + 1
            if silences >= SILENCES:
                log.error("nats-server was silent %d times in a row: it is ended", silences)
                self._server.kill()
                silences = 0
