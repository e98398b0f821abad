"""A workload that this program runs in the mesh: where its calls go out, and how it leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

from ray_mesh.sdk.grpc_channel import Options, open_aio_channel, open_channel

if TYPE_CHECKING:
    import grpc
    import grpc.aio

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

        Loopback stays direct. For aiohttp, also pass ``trust_env=True``; grpcio needs nothing more.
        """
        proxied = {"http_proxy": self.http_proxy, "HTTP_PROXY": self.http_proxy}
        return proxied | {"no_proxy": NOT_PROXIED, "NO_PROXY": NOT_PROXIED}


@dataclass(frozen=True, slots=True)
class AsyncAttachment(Ticket):
    """An attached workload; leaving the ``async with`` block detaches it."""

    mesh: AsyncMesh = field(repr=False)

    def grpc_channel(self, target: str, options: Options = ()) -> grpc.aio.Channel:
        """A channel of grpcio to ``host:port``, whose calls this workload makes; close it.

        Raises:
            ConfigError: grpcio is not installed.
        """
        return open_aio_channel(self.http_proxy, target, options)

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

    def grpc_channel(self, target: str, options: Options = ()) -> grpc.Channel:
        """As :meth:`AsyncAttachment.grpc_channel`, for threads."""
        return open_channel(self.http_proxy, target, options)

    def detach(self) -> None:
        """Leave the mesh; no error when it is detached already."""
        self.mesh.detach(self.name, namespace=self.namespace)

    def __enter__(self) -> Attachment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()
