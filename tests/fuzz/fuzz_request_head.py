"""Request heads: what is accepted is one thing only, however it is cut."""

from __future__ import annotations

from fuzzing import LOOP, fuzz
from hostile_requests import REQUESTS
from wire_ends import understand_requests

FORBIDDEN = (
    b"connection",
    b"transfer-encoding",
    b"keep-alive",
    b"te",
    b"proxy-authorization",
    b"x-mesh-source",
)


def check(data: bytes) -> None:
    """The first byte says where the rest is cut."""
    cut, wire = (data[0] if data else 0), data[1:]
    whole = LOOP.run_until_complete(understand_requests([wire]))
    halves = LOOP.run_until_complete(understand_requests([each for each in (wire[:cut], wire[cut:]) if each]))
    assert whole == halves
    for seen in whole:
        if isinstance(seen, tuple):
            method, path, _, fields, *_ = seen
            assert method.isupper()
            assert path[:1] == b"/" or (method, path) == (b"OPTIONS", b"*")
            _check_fields(fields)


def _check_fields(fields: bytes) -> None:
    lines = fields.split(b"\r\n")
    assert lines[0] == lines[-1] == b""
    names = [line.partition(b":")[0].lower() for line in lines[1:-1]]
    assert names.count(b"host") == 1
    assert names.count(b"content-length") <= 1
    is_upgrade = b"upgrade" in names
    assert not {name for name in names if name in FORBIDDEN} - ({b"connection"} if is_upgrade else set())
    assert not any(byte in b"".join(lines) for byte in b"\r\n\0")


if __name__ == "__main__":
    fuzz(check, [b"\x10" + case.sent for case in REQUESTS if len(case.sent) < 4000])
