"""A real broker for tests: certificate, server, credentials and connections, all ended afterwards."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ray_mesh.bus.client import Bus
from ray_mesh.bus.credentials import BrokerAddress, Credential
from ray_mesh.bus.messages import Event
from ray_mesh.bus.permissions import Permissions, permissions
from ray_mesh.bus.server import BrokerOptions, BrokerServer
from ray_mesh.bus.store import ensure_buckets


def write_certificate(folder: Path) -> BrokerOptions:
    """A self-signed certificate for 127.0.0.1 in ``folder``, and options that use it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker of a test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "broker.pem", folder / "broker.key"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return BrokerOptions(store=folder / "store", cert_file=cert_file, key_file=key_file)


class Broker:
    """A running broker, its users and the buses that were opened to it."""

    def __init__(self, folder: Path) -> None:
        self.options = write_certificate(folder)
        self.server = BrokerServer(self.options)
        self.users: dict[str, Permissions] = {}
        self.events: list[Event] = []
        self._buses: list[Bus] = []

    @property
    def address(self) -> BrokerAddress:
        return BrokerAddress(self.server.url, self.options.cert_file.read_text())

    async def start(self) -> None:
        await self.server.start(self.users)

    async def kill(self) -> None:
        """End the broker as a power cut would."""
        os.kill(self.server.pid, signal.SIGKILL)
        await self.server.wait_dead()

    async def join(self, role: str, instance: str = "a", node: str = "n1", *, attested: bool = True) -> Bus:
        """Make a user of a role and connect as it."""
        credential = await self.add_user(role, instance, node, attested=attested)
        return await self.connect(role, instance, credential)

    async def add_user(
        self, role: str, instance: str, node: str = "n1", *, attested: bool = True
    ) -> Credential:
        credential = Credential.generate()
        self.users[credential.public] = permissions(role, instance, node=node, attested=attested)
        if self.server.pid:
            await self.server.set_users(self.users)
        return credential

    async def connect(self, role: str, instance: str, credential: Credential, timeout_s: float = 10.0) -> Bus:
        bus = await Bus.connect(
            self.address, role, instance, credential, self.events.append, timeout_s=timeout_s
        )
        self._buses.append(bus)
        return bus

    async def end(self) -> None:
        for bus in self._buses:
            await bus.close()
        await self.server.stop()

    def reasons(self) -> list[str]:
        return [event.reason for event in self.events]


@asynccontextmanager
async def running_broker(folder: Path, *, buckets: bool = True) -> AsyncIterator[Broker]:
    """A started broker with empty buckets."""
    broker = Broker(folder)
    try:
        controller = await broker.add_user("controller", "test")
        await broker.start()
        if buckets:
            await ensure_buckets(await broker.connect("controller", "test", controller))
        yield broker
    finally:
        await broker.end()


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait for a condition, or fail."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)
