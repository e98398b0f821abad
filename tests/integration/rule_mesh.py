"""DestinationRules the whole way from documents, and an application that answers as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from proxy_mesh import App, Client, Handler, Mesh, request_bytes
from routing_mesh import apply_routes

__all__ = ["Gate", "apply_rule", "ask", "statuses"]

RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: reviews, namespace: default}}
spec: {{host: reviews{policy}{more}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: reviews, namespace: default, labels: {{app: reviews}}}}
spec: {{address: 192.0.2.1, labels: {{app: reviews}}}}
---
"""
"""With an entry that subsets of ``reviews`` may select."""
TO_REVIEWS = "[{route: [{destination: {host: reviews}}]}]"


def apply_rule(mesh: Mesh, policy: str, more: str = "", http: str = TO_REVIEWS, also: str = "") -> None:
    """Give ``reviews`` a traffic policy (and ``more`` of its rule), routes, and further documents.

    A policy of ``{}`` is none.
    """
    said = {
        "policy": "" if policy == "{}" else f", trafficPolicy: {policy}",
        "more": f", {more}" if more else "",
    }
    apply_routes(mesh, http, more=RULE.format(**said) + also)


class Gate:
    """A handler that holds every answer until it is opened."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.arrived = 0
        self.most = 0
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        self.most = max(self.most, self.connections)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.arrived += 1
                await self.open.wait()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()
        finally:
            self.connections -= 1


async def ask(port: int, method: str = "GET", body: bytes = b"", **fields: str) -> Client:
    """Send one request on a connection of its own."""
    one = await Client.connect(port)
    await one.send(request_bytes(method, "/", "reviews", body, **fields))
    return one


async def statuses(clients: list[Client]) -> list[int]:
    """What they were answered, and close them."""
    found = [(await one.answer()).status for one in clients]
    for one in clients:
        await one.close()
    return found


def scripted(app: Callable[[], App], script: list[bytes | None]) -> Handler:
    """A handler that gives these answers one after the other (None: closes), the last one for ever."""
    turns = iter(script)
    last = script[-1]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await app().read(reader)
            answer = next(turns, last)
            if answer is None:
                return
            writer.write(answer)
            await writer.drain()

    return serve


def answer(status: int, body: bytes = b"", *fields: str) -> bytes:
    """A response."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
