"""Messages of the NATS protocol, taken from what a connection reads.

A proxy hears two messages for each change, and there are thousands of proxies. Whole messages are therefore
taken from the bytes as they came; nats-py's own parser, which copies them into a buffer first, reads whatever
else there is: pieces of messages, and the commands by which a connection is kept.
"""

from __future__ import annotations

from typing import Protocol

from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

_VERSION = len("NATS/1.0")
_DIGITS = 16
_KNOWN = frozenset(
    {
        "Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp", "Nats-Last-Sequence",
        "Nats-Expected-Last-Subject-Sequence", "Mesh-Signature", "Mesh-Beacon",
    }
)  # fmt: skip
"""Headers of republished values, which most are."""


class Receiver(Protocol):
    """Who is told of messages."""

    def deliver(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        """One message of a subscription. Raises nothing."""


class Reader(Parser):
    """nats-py's parser with a short way for messages that came whole."""

    def __init__(self, connection: Receiver) -> None:
        super().__init__(connection)
        self._receiver = connection

    async def parse(self, data: bytes = b"") -> None:
        """Take what was read."""
        if not self.buf and self.state == AWAITING_CONTROL_LINE:
            taken = take_messages(data, self._receiver)
            data = data[taken:] if taken else data
        if data:
            await super().parse(data)


def take_messages(data: bytes, receiver: Receiver) -> int:
    """Hand on the whole messages that ``data`` begins with; returns how many bytes they were."""
    at = 0
    while data.startswith((b"MSG ", b"HMSG "), at):
        line_end = data.find(b"\r\n", at)
        words = data[at:line_end].split() if line_end > 0 else []
        sizes = 2 if data[at : at + 1] == b"H" else 1
        if len(words) - sizes not in (3, 4) or not all(
            word.isdigit() for word in (words[2], *words[-sizes:])
        ):
            break
        headed_to = line_end + 2 + (int(words[-2]) if sizes == 2 else 0)
        end = line_end + 2 + int(words[-1])
        if headed_to > end or len(data) < end + 2:
            break
        reply = words[3] if len(words) - sizes == 4 else b""
        headers = data[line_end + 2 : headed_to] or None
        receiver.deliver(int(words[2]), words[1], reply, data[headed_to:end], headers)
        at = end + 2
    return at


def _is_number(word: bytes) -> bool:
    return word.isdigit() and len(word) < _DIGITS


def read_headers(raw: bytes) -> dict[str, str]:
    """The headers of a message, with a status of the broker under ``Status`` and ``Description``.

    As nats-py reads them, which looks at every character of each name: that took an eighth of a proxy's time
    per change, since a republished value has six headers.
    """
    first, *lines = raw.decode("utf-8", "replace").split("\r\n")
    status, _, description = first[_VERSION:].strip().partition(" ")
    found: dict[str, str] = {}
    if status.isdigit():
        found["Status"] = status
    if description:
        found["Description"] = description.strip()
    for line in lines:
        name, separator, value = line.partition(":")
        if name in _KNOWN:
            found[name] = value.strip()
        elif separator and len(names := name.split()) == 1 and names[0].isascii():
            found[names[0]] = value.strip()
    return found
