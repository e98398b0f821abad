"""The server name of TLS that is passed on: it never changes with what follows, and how records are cut is
no matter."""

from __future__ import annotations

import contextlib
import ssl

from fuzzing import fuzz

from ray_mesh.proxy.client_hello import BadHello, server_name


def understand(data: bytes) -> str | None:
    """The name, None for more, ``!`` for what is refused."""
    try:
        return server_name(data)
    except BadHello:
        return "!"


def check(data: bytes) -> None:
    """What was decided at a cut stays so, whatever comes."""
    decided: str | None = None
    for cut in {0, 1, 5, 9, 43, len(data) // 2, max(len(data) - 1, 0), len(data)}:
        found = understand(data[:cut])
        if found is not None:
            assert understand(data) == found
            decided = found
    if decided not in (None, "!", ""):
        assert decided == decided.lower()
        assert not decided.endswith(".")
        assert all(each.isalnum() or each in "._-" for each in decided)
        assert understand(data + b"\x16\x03\x01\0\x01x") == decided


def hello(name: str | None) -> bytes:
    """What OpenSSL sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = name is not None
    outgoing = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def in_two_records(raw: bytes) -> bytes:
    """The same handshake, cut."""
    first, second = raw[5:60], raw[60:]
    return b"".join(b"\x16\x03\x01" + len(each).to_bytes(2, "big") + each for each in (first, second))


if __name__ == "__main__":
    usual = hello("site.example.com")
    fuzz(check, [usual, hello(None), in_two_records(usual), b"GET / HTTP/1.1\r\n\r\n"])
