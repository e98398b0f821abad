"""An application that remembers what reached it, one for each proxy that is compared."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from proxy_mesh import App

Fields = tuple[tuple[str, str], ...]
_CHANGING = frozenset(
    {
        "x-forwarded-for",  # Envoy writes an address of its machine for a client on loopback
        "x-request-id",
        "traceparent",
        "tracestate",
        "content-length",
        "transfer-encoding",
        "via",
        "date",
        "server",
        "connection",
        "keep-alive",
    }
)
"""Named anew by each proxy, or framing, which each proxy derives anew; bodies are compared decoded."""


def multimap(fields: list[tuple[str, str]]) -> Fields:
    """Fields by name, in order for one name, without those that differ by nature."""
    kept = [(name.lower(), value.strip()) for name, value in fields]
    kept = [one for one in kept if one[0] not in _CHANGING and not one[0].startswith("x-envoy-")]
    return tuple(sorted(kept, key=lambda one: one[0]))


@dataclass(frozen=True)
class Seen:
    """A request as it reached the application."""

    method: str
    target: str
    fields: Fields
    body: bytes

    def __str__(self) -> str:
        fields = " ".join(f"{name}={value!r}" for name, value in self.fields)
        return f"{self.method} {self.target} [{fields}] {self.body[:60]!r}"


class Recorder:
    """Answers ``raw`` (200 if that is None) and remembers; None as answer is silence."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.respond: Callable[[Seen], bytes | None] = lambda seen: OK
        self.app = App("oracle", self._serve)

    @property
    def connections(self) -> int:
        """How many connections came so far."""
        return self.app.connections

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            line, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
            fields = [(name, value) for name, _, value in (one.partition(":") for one in lines)]
            body = await _body(reader, {name.lower(): value.strip() for name, value in fields})
            method, _, rest = line.partition(" ")
            seen = Seen(method, rest.rpartition(" ")[0], multimap(fields), body)
            if seen.target == LAST:
                writer.write(OK)
                continue
            self.seen.append(seen)
            answer = self.respond(seen)
            if answer is None:
                await asyncio.Event().wait()
            assert answer is not None
            writer.write(answer)
            await writer.drain()
            if answer.endswith(CUT):
                return


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LAST = "/last"
"""A request that is answered and not remembered: what was under way before it has arrived."""
CUT = b"(cut)"
"""An answer with this end is the last of its connection."""


async def _body(reader: asyncio.StreamReader, fields: dict[str, str]) -> bytes:
    if fields.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(int(fields.get("content-length", "0")))
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return body
