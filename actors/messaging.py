"""The controller's side of NATS: the mesh's own broker and its users, or one that was there already.

The mesh's own broker admits whom the controller lists. A NATS that is not ours has no such list: roles
read their credential from the state directory, proxies get theirs as a letter.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from typing import Any

from ray.actor import ActorHandle

from ray_mesh import __version__
from ray_mesh.actors import placement
from ray_mesh.actors.announcing import Announcing
from ray_mesh.actors.export import DesiredExport
from ray_mesh.actors.inventory import Member
from ray_mesh.actors.premises import Premises
from ray_mesh.bus.client import Bus
from ray_mesh.bus.credentials import BrokerAddress, Credential
from ray_mesh.bus.external import ExternalNats, make_buckets
from ray_mesh.bus.preflight import check_reading
from ray_mesh.bus.store import Entry, Owner, ensure_buckets, remove_buckets
from ray_mesh.errors import MeshError
from ray_mesh.security import letter

log = logging.getLogger(__name__)

BROKER = "broker"


class Messaging:
    """The broker's actor, where it is ours, and the controller's connection."""

    def __init__(self, premises: Premises, announcing: Announcing) -> None:
        self.address = BrokerAddress("", "")
        self.broker: ActorHandle[Any] | None = None
        self._premises = premises
        self._announcing = announcing
        self._bus: Bus | None = None
        self._export: DesiredExport | None = None
        self._users_lock = asyncio.Lock()

    async def start(self) -> Bus:
        """Start or join the broker, and see to it that desired state is there. Raises MeshError, OSError."""
        premises, nats = self._premises, self._premises.options.nats
        bus = await (self._join(nats) if nats else self._start_own())
        self._bus = self._announcing.bus = bus
        self._export = DesiredExport(
            premises.state_dir.desired_export,
            premises.state_dir.signing_key("admission"),
            self._announcing.report,
            self._ensure_buckets,
        )
        await self._export.start(bus)
        if nats and nats.has_proxy_login and not premises.inventory.members:
            await check_reading(nats, premises.state_dir.login("proxies"))
        return bus

    async def close(self, *, leaves: bool = False) -> None:
        """End the connection; with ``leaves`` what need not be kept at a NATS that is not ours is removed."""
        if self._bus is None:
            return
        if self._export is not None:
            await self._export.stop()
        if leaves:
            await self._leave_nats(self._bus)
        await self._bus.close()
        self._bus = self._announcing.bus = None

    async def run_broker(self, running: ActorHandle[Any] | None = None) -> None:
        """Start the broker, or take the running one over, and give it its users."""
        premises = self._premises
        self.broker = running or placement.create(premises.settings(BROKER, BROKER), premises.head_node)
        self.address = await self.broker.start.remote(premises.inventory.users())

    async def replace_broker(self) -> None:
        """End the broker and start another in its place."""
        assert self.broker is not None, "start() comes first"
        await placement.end(self.broker, politely=False)
        await self.run_broker()

    async def push_users(self) -> None:
        """The inventory changed: save it, and admit whom it lists."""
        async with self._users_lock:
            self._premises.inventory.save()
            if self.broker is not None:
                await self.broker.set_users.remote(self._premises.inventory.users())

    def write_letter(self, letterbox: bytes) -> bytes:
        """The proxies' credential, for one of them; nothing where the broker admits each by its own key."""
        if self.address.embedded:
            return b""
        return letter.write(letterbox, self._premises.state_dir.login("proxies").reveal())

    async def _start_own(self) -> Bus:
        premises = self._premises
        credential = Credential.generate()
        instance = f"controller-{secrets.token_hex(3)}"
        premises.inventory.members[instance] = Member(
            "controller", 0, premises.head, instance, credential.public
        )
        handle = await placement.find(BROKER, premises.options.namespace)
        described = await placement.describe(handle) if handle is not None else None
        if handle is not None and not (
            described is not None and described.healthy and described.version == __version__
        ):
            await placement.end(handle, politely=True)
            handle = None
        await self.run_broker(handle)
        premises.inventory.save()
        return await self._connect(instance, credential)

    async def _join(self, nats: ExternalNats) -> Bus:
        self.address = nats.address
        login = self._premises.state_dir.login("control")
        return await self._connect(f"controller-{secrets.token_hex(3)}", login)

    async def _connect(self, instance: str, credential: Any) -> Bus:
        on_event = self._announcing.report_event
        return await Bus.connect(self.address, "controller", instance, credential, on_event=on_event)

    async def _ensure_buckets(self, bus: Bus, desired: Sequence[Entry]) -> bool:
        nats = self._premises.options.nats
        if nats is None:
            return await ensure_buckets(bus, desired=desired)
        return await make_buckets(bus, nats, self._owner, desired)

    async def _leave_nats(self, bus: Bus) -> None:
        options = self._premises.options
        if options.nats is None or options.keep_state:
            return
        try:
            await remove_buckets(bus, self._owner)
        except MeshError as error:
            log.error("buckets are left at %s: %s", options.nats.url, error)

    @property
    def _owner(self) -> Owner:
        return Owner(self._premises.options.name, self._premises.keys.admission_public)
