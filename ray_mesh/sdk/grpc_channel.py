"""Channels of grpcio whose calls go through the mesh.

A channel opens a tunnel (CONNECT) to the workload's proxy, which routes, secures and counts each call in it.
Channels that are made by grpcio itself do the same in a process whose environment has ``http_proxy``
(:meth:`.attachment.Ticket.env`); these need no environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ray_mesh.errors import ConfigError

if TYPE_CHECKING:
    import grpc
    import grpc.aio

Options = Sequence[tuple[str, Any]]


def open_channel(http_proxy: str, target: str, options: Options = ()) -> grpc.Channel:
    """A channel to ``target`` (``host:port``) through the proxy at ``http_proxy``.

    Raises:
        ConfigError: grpcio is not installed.
    """
    return _grpcio().insecure_channel(target, options=_through(http_proxy, options))


def open_aio_channel(http_proxy: str, target: str, options: Options = ()) -> grpc.aio.Channel:
    """As :func:`open_channel`, for asyncio; call it on the loop that uses it."""
    return _grpcio().aio.insecure_channel(target, options=_through(http_proxy, options))


def _through(http_proxy: str, options: Options) -> list[tuple[str, Any]]:
    return [("grpc.http_proxy", http_proxy), ("grpc.enable_http_proxy", 1), *options]


def _grpcio() -> Any:
    try:
        import grpc
        import grpc.aio
    except ImportError as error:
        raise ConfigError("channels of gRPC need grpcio: pip install 'ray-mesh[grpc]'") from error
    return grpc
