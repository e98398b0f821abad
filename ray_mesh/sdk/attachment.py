"""A workload that this program runs in the mesh: where its calls go out, and how it leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray_mesh.sdk.client import AsyncMesh
    from ray_mesh.sdk.facade import Mesh

NOT_PROXIED = "localhost,127.0.0.1,::1"


@dataclass(frozen=True, slots=True)
class Ticket:
    """What the mesh gave the workload.

    ``http_proxy`` carries the workload's token: whoever has it speaks as this workload, so it is not
    shown by ``repr``. The token is told once and stored nowhere but here.
    """

    workload: str
    namespace: str
    name: str
    node: str
    http_proxy: str = field(repr=False)
    outbound_port: int
    gateway_ports: dict[str, int]
    revision: int

    def env(self) -> dict[str, str]:
        """Environment variables that send the HTTP calls of a process through the mesh.

        Loopback stays direct. For aiohttp, also pass ``trust_env=True``.
        """
        proxied = {"http_proxy": self.http_proxy, "HTTP_PROXY": self.http_proxy}
        return proxied | {"no_proxy": NOT_PROXIED, "NO_PROXY": NOT_PROXIED}


@dataclass(frozen=True, slots=True)
class AsyncAttachment(Ticket):
    """An attached workload; leaving the ``async with`` block detaches it."""

    mesh: AsyncMesh = field(repr=False)

    async def detach(self) -> None:
        """Leave the mesh; no error when it is detached already."""
        await self.mesh.detach(self.name, namespace=self.namespace)

    async def __aenter__(self) -> AsyncAttachment:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.detach()


@dataclass(frozen=True, slots=True)
class Attachment(Ticket):
    """An attached workload; leaving the ``with`` block detaches it."""

    mesh: Mesh = field(repr=False)

    def detach(self) -> None:
        """Leave the mesh; no error when it is detached already."""
        self.mesh.detach(self.name, namespace=self.namespace)

    def __enter__(self) -> Attachment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()
