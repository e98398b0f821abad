"""What two proxies say on a TCP connection: ``ray-mesh-tcp/1``, chosen by ALPN inside mutual TLS.

Everything is a frame: four bytes of length (big endian), then so many bytes. The caller sends a
:class:`Hello`, the callee answers with a :class:`Verdict`, after that frames carry the connection's bytes.
A frame without bytes ends its direction: TLS has no half-close, and an end without this frame is a reset.
"""

from __future__ import annotations

from dataclasses import dataclass

from ray_mesh import codec
from ray_mesh.errors import PeerError

MAX_MESSAGE = 4096
"""Bytes of a hello or verdict."""
END = b"\0\0\0\0"


@dataclass(frozen=True, slots=True)
class Hello:
    """Who calls what. ``source`` is ``<workload>;<app>;<version>``; it is believed as far as the peer's
    certificate goes. ``service`` is a full host, ``port`` one of its ports."""

    source: str
    service: str
    port: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the callee's application has the connection (``flag`` and ``reason`` empty), or why not."""

    status: int = 200
    flag: str = ""
    reason: str = ""
    message: str = ""
    fields: tuple[str, ...] = ()


def message(value: Hello | Verdict) -> bytes:
    """A hello or verdict as its frame."""
    raw = codec.pack(value)
    return header(len(raw)) + raw


def header(length: int) -> bytes:
    """What goes before so many bytes."""
    return length.to_bytes(4, "big")


class Message:
    """Collects the one message that comes before the bytes of the connection."""

    __slots__ = ("_raw",)

    def __init__(self) -> None:
        self._raw = bytearray()

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """The message and what followed it, once it is complete.

        Raises:
            PeerError: it is larger than a message may be.
        """
        self._raw += data
        if len(self._raw) < 4:
            return None
        end = 4 + int.from_bytes(self._raw[:4], "big")
        if end - 4 > MAX_MESSAGE:
            raise PeerError(f"the first frame has {end - 4} bytes, at most {MAX_MESSAGE} are allowed")
        if len(self._raw) < end:
            return None
        return bytes(self._raw[4:end]), bytes(self._raw[end:])


class Frames:
    """Takes the frames of one direction apart, however they were cut on their way."""

    __slots__ = ("_head", "_left", "has_ended")

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        self.has_ended = False

    def feed(self, data: bytes) -> list[memoryview]:
        """The bytes of the connection in ``data``; nothing may follow the end.

        Raises:
            PeerError: something did.
        """
        found: list[memoryview] = []
        view = memoryview(data)
        while view:
            if self.has_ended:
                raise PeerError("bytes came after the end of the direction")
            if self._left:
                found.append(view[: self._left])
                taken = len(found[-1])
                self._left -= taken
                view = view[taken:]
                continue
            need = 4 - len(self._head)
            self._head += bytes(view[:need])
            view = view[need:]
            if len(self._head) == 4:
                self._left = int.from_bytes(self._head, "big")
                self._head = b""
                self.has_ended = not self._left
        return found
