"""The ClientHello of real clients in any cut, and anything else."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_mesh.proxy.client_hello import BadHello, server_name

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
NAMES = st.lists(LABEL, min_size=2, max_size=4).map(".".join).filter(lambda name: not name[-1].isdigit())


def hello(name: str) -> bytes:
    """What OpenSSL sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = bool(name)
    outgoing = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name or None)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


@given(NAMES, st.data())
def test_the_name_is_found_once_all_is_there(name: str, data: st.DataObject) -> None:
    raw = hello(name)
    cut = data.draw(st.integers(0, len(raw) - 1))
    assert server_name(raw[:cut]) is None
    assert server_name(raw) == name
    assert server_name(raw + b"\x17\x03\x03\0\x01x") == name


@given(st.lists(st.integers(1, 200), min_size=1, max_size=8))
def test_a_hello_in_several_records(sizes: list[int]) -> None:
    body = hello("site.example.com")[5:]
    raw = b""
    for size in [*sizes, len(body)]:
        part, body = body[:size], body[size:]
        if part:
            raw += b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part
    assert server_name(raw) == "site.example.com"
    for cut in range(len(raw)):
        assert server_name(raw[:cut]) is None


def test_without_a_name() -> None:
    assert server_name(hello("")) == ""


@given(st.binary(max_size=200), st.integers(0, 60))
def test_noise_is_refused_or_waited_for(noise: bytes, kept: int) -> None:
    for raw in (noise, hello("site.example.com")[:kept] + noise):
        try:
            found = server_name(raw)
        except BadHello:
            continue
        assert found in (None, "") or isinstance(found, str)


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03",
        b"\x15\x03\x01\x00\x02\x02\x28",
        hello("a.example").replace(b"a.example", b"a.\x00xample"),
        hello("a.example").replace(b"a.example", b"-.example"),
    ],
)
def test_hostile_hellos(raw: bytes) -> None:
    with pytest.raises(BadHello):
        server_name(raw)
