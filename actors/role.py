"""What all control roles have in common: keys made in the process, one broker connection, a heartbeat.

A role is started in two steps, because the broker admits nobody it was not told of: ``prepare``
makes the credential and returns its public half; the controller registers that; ``start`` connects.
A NATS that is not ours is entered with a credential from the state directory instead.
The work of a role is in its pure state class; what is here only moves messages.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Coroutine
from typing import Literal

from ray_mesh import __version__
from ray_mesh.actors.secrets import StateDir
from ray_mesh.actors.settings import Description, Prepared, RoleSettings
from ray_mesh.bus import messages, subjects
from ray_mesh.bus.client import Bus, Message
from ray_mesh.bus.credentials import BrokerAddress, Credential
from ray_mesh.membership import HEARTBEAT_S, LEASE_S, Membership

log = logging.getLogger(__name__)


class Role:
    """Base of the control roles. Subclasses implement :meth:`run`. ``lease_s`` is how long replicas of the
    role believe that one lives which is not heard."""

    lease_s = LEASE_S

    def __init__(self, settings: RoleSettings) -> None:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        self.settings = settings
        self.state_dir = StateDir(settings.options.state_dir)
        self.members = Membership(always=settings.instance, lease_s=self.lease_s)
        self._credential = Credential.generate()
        self._epoch = secrets.token_hex(8)
        self._bus: Bus | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def bus(self) -> Bus:
        """The broker connection, there after :meth:`start`."""
        assert self._bus is not None, "start() comes first"
        return self._bus

    async def prepare(self) -> Prepared:
        """The public half of this actor's broker credential."""
        return Prepared(self._credential.public)

    async def start(self, address: BrokerAddress) -> Description:
        """Connect, do the role's own start, and keep a heartbeat."""
        settings = self.settings
        credential = self._credential if address.embedded else self.state_dir.login("control")
        self._bus = await Bus.connect(
            address, settings.role, settings.instance, credential, on_event=self.report_event
        )
        await self.bus.subscribe(subjects.every("role", settings.role), self._heard_role)
        await self.run()
        self.spawn(self._beat(), "heartbeat")
        return await self.describe()

    async def run(self) -> None:
        """The role's own start, with the broker connected."""
        raise TypeError(f"{type(self).__name__} does not say what it does")

    async def close(self) -> None:
        """The role's own end, with the broker still connected."""

    async def describe(self) -> Description:
        """What this actor is and whether its loops run."""
        ended = [task.get_name() for task in self._tasks if task.done()]
        return Description(
            role=self.settings.role,
            instance=self.settings.instance,
            version=__version__,
            pid=os.getpid(),
            healthy=not ended,
            detail=f"ended: {', '.join(ended)}" if ended else "",
        )

    async def stop(self) -> None:
        """Say farewell and end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.close()
        if self._bus is not None:
            self._publish_lease(leaving=True)
            await self._bus.close()

    def spawn(self, coroutine: Coroutine[None, None, None], name: str) -> None:
        """Run a loop of this role; when it ends, the role is unhealthy."""
        self._tasks.append(asyncio.create_task(coroutine, name=name))

    def report(self, severity: Literal["info", "warning", "error"], reason: str, message: str) -> None:
        """Tell people something."""
        self.report_event(messages.Event(time.time(), severity, reason, message, self.settings.instance))

    def report_event(self, event: messages.Event) -> None:
        """Tell people something."""
        log.warning("%s: %s", event.reason, event.message)
        if self._bus is not None:
            self._bus.publish(
                subjects.event(self.settings.role, self.settings.instance), messages.encode(event)
            )

    def _heard_role(self, message: Message) -> None:
        lease = messages.decode(messages.RoleLease, message.data)
        self.members.heard(subjects.last_token(message.subject), time.monotonic(), lease.leaving)

    async def _beat(self) -> None:
        while True:
            self._publish_lease()
            await asyncio.sleep(HEARTBEAT_S)

    def _publish_lease(self, leaving: bool = False) -> None:
        lease = messages.RoleLease(
            role=self.settings.role,
            instance=self.settings.instance,
            epoch=self._epoch,
            version=__version__,
            pid=os.getpid(),
            leaving=leaving,
        )
        self.bus.publish(subjects.role(self.settings.role, self.settings.instance), messages.encode(lease))
