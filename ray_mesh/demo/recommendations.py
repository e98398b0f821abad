"""Bookinfo's recommendations service, which speaks gRPC, and how productpage calls it.

Messages are JSON: gRPC carries any bytes. The client is plain grpcio, which honours ``http_proxy`` as aiohttp
does. It keeps one connection, on which the mesh routes and balances each call for itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import grpc
import grpc.aio

SERVICE = "bookinfo.Recommendations"
METHOD = "List"
TITLES = {
    "v1": ("Much Ado About Nothing", "As You Like It"),
    "v2": ("Twelfth Night", "Much Ado About Nothing", "The Merry Wives of Windsor"),
}
_OPTIONS = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000))


def encode(message: Mapping[str, Any]) -> bytes:
    """A message as it travels."""
    return json.dumps(message).encode()


def decode(data: bytes) -> dict[str, Any]:
    """A message as it was. Raises ValueError."""
    message = json.loads(data)
    if not isinstance(message, dict):
        raise ValueError("a message is a JSON object")
    return message


def server(version: str = "v1") -> grpc.aio.Server:
    """The service in ``version``, without a port."""

    async def answer(request: dict[str, Any], context: grpc.aio.ServicerContext) -> dict[str, Any]:
        product = request.get("product")
        if type(product) is not int:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "please provide a numeric product id")
        return {"product": product, "version": version, "titles": list(TITLES[version])}

    method = grpc.unary_unary_rpc_method_handler(answer, decode, encode)
    made = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    made.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: method}),))
    return made


class Channel:
    """Calls of the service at ``target`` (``host:port``). The connection is made for the first call, through
    the proxy that ``http_proxy`` names by then."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._channel: grpc.aio.Channel | None = None

    async def recommend(
        self, product: int, metadata: Mapping[str, str], timeout_s: float
    ) -> tuple[int, dict[str, Any]]:
        """What goes with a product: 200 and the answer, or 503 and the status.

        UNAVAILABLE is tried once more, and waits for a connection then.
        """
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self._target, options=_OPTIONS)
        call = self._channel.unary_unary(f"/{SERVICE}/{METHOD}", encode, decode)
        problem = ""
        for is_patient in (False, True):
            try:
                return 200, await call(
                    {"product": product},
                    metadata=tuple(metadata.items()),
                    timeout=timeout_s,
                    wait_for_ready=is_patient,
                )
            except grpc.aio.AioRpcError as error:
                problem = problem or f"{error.code().name}: {error.details()}"
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    break
        return 503, {"error": problem}

    async def close(self) -> None:
        """End the connection."""
        if self._channel is not None:
            await self._channel.close()
