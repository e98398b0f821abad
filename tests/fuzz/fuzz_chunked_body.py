"""Chunked bodies: cutting changes nothing, and what was understood can be written and read again."""

from __future__ import annotations

from fuzzing import fuzz
from hostile_requests import CHUNKED_BODIES
from wire_ends import understand_chunks

from ray_mesh.proxy import body


def check(data: bytes) -> None:
    """The first byte says where the rest is cut."""
    cut, wire = (data[0] if data else 0), data[1:]
    whole = understand_chunks([wire])
    assert understand_chunks([each for each in (wire[:cut], wire[cut:]) if each]) == whole
    assert understand_chunks([wire[at : at + 1] for at in range(len(wire))]) == whole
    if isinstance(whole, tuple):
        payload, trailer, rest = whole
        again = body.frame(payload) + body.last_chunk(trailer) + rest
        assert understand_chunks([again]) == whole
        assert not any(byte in trailer.replace(b"\r\n", b"") for byte in b"\r\n\0")


if __name__ == "__main__":
    good = b'5;a="b"\r\nhello\r\n0\r\nX: y\r\n\r\nGET /'
    fuzz(check, [b"\x08" + each for each in (*CHUNKED_BODIES, good) if len(each) < 4000])
