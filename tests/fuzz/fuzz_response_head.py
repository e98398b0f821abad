"""Responses: what is passed on is one thing only, however it is cut."""

from __future__ import annotations

from fuzzing import LOOP, fuzz
from hostile_responses import ALLOWED, RESPONSES
from wire_ends import understand_response


def check(data: bytes) -> None:
    """The first byte says where the rest is cut."""
    cut, wire = (data[0] if data else 0), data[1:]
    if wire.startswith(b"HTTP/1.0") or b"lose" in wire.lower():
        return  # their connections are closed anyway, so that what follows them is not looked at
    whole = LOOP.run_until_complete(understand_response([wire]))
    halves = LOOP.run_until_complete(understand_response([each for each in (wire[:cut], wire[cut:]) if each]))
    assert whole == halves
    for seen in whole:
        if isinstance(seen, tuple) and len(seen) == 3:
            line, fields, _ = seen
            names = [each.partition(b":")[0].lower() for each in fields.split(b"\r\n")[1:-1]]
            assert names.count(b"content-length") <= 1
            assert b"transfer-encoding" not in names
            assert not any(byte in line + fields.replace(b"\r\n", b"") for byte in b"\r\n\0")


if __name__ == "__main__":
    fuzz(check, [b"\x20" + each for each in (*RESPONSES, *ALLOWED) if len(each) < 4000])
