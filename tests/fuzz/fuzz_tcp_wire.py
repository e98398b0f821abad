"""What two proxies say on a TCP connection: any cut of the bytes is the same first message and the same
frames, and none holds more than it may."""

from __future__ import annotations

from typing import TypeVar

from fuzzing import fuzz

from ray_mesh import codec
from ray_mesh.errors import PeerError
from ray_mesh.proxy.tcp_wire import END, MAX_MESSAGE, Frames, Hello, Message, Verdict, header, message

Said = TypeVar("Said", Hello, Verdict)


def first_message(parts: list[bytes]) -> tuple[bytes, bytes] | str | None:
    """The message and all that followed it, None for more, ``!`` for what is refused."""
    reader = Message()
    try:
        for number, part in enumerate(parts):
            found = reader.feed(part)
            if found is not None:
                return found[0], found[1] + b"".join(parts[number + 1 :])
    except PeerError:
        return "!"
    return None


def frames(parts: list[bytes]) -> tuple[bytes, bool] | str:
    """The bytes of the connection and whether the direction ended, ``!`` for what is refused."""
    reader = Frames()
    payload = b""
    try:
        for part in parts:
            payload += b"".join(reader.feed(part))
    except PeerError:
        return "!"
    return payload, reader.has_ended


def check(data: bytes) -> None:
    """The first byte says where the rest is cut."""
    cut, wire = (data[0] if data else 0), data[1:]
    two = [each for each in (wire[:cut], wire[cut:]) if each]
    single = [wire[at : at + 1] for at in range(len(wire))]
    assert first_message(two) == first_message(single) == first_message([wire])
    assert frames(two) == frames(single) == frames([wire])
    found = first_message([wire])
    if isinstance(found, tuple):
        raw, rest = found
        assert len(raw) <= MAX_MESSAGE
        assert header(len(raw)) + raw + rest == wire
        check_message(Hello, raw)
        check_message(Verdict, raw)


def check_message(kind: type[Said], raw: bytes) -> None:
    """What was understood is the same when it is written and read again."""
    try:
        value = codec.unpack(kind, raw)
    except PeerError:
        return
    assert codec.unpack(kind, message(value)[4:]) == value


if __name__ == "__main__":
    hello = message(Hello("a/b;c;d", "db.default.svc.cluster.local", 5432))
    verdict = message(Verdict(403, "UAEX", "denied", "why", ("x: y",)))
    fuzz(check, [b"\x09" + each + header(3) + b"abc" + END for each in (hello, verdict, b"")])
