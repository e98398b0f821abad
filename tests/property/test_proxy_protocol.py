"""PROXY protocol headers: what is written is read, in any cut; the rest is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_mesh.proxy.proxy_protocol import BadProxyHeader, ProxyHeader, Version, read_header, write_header

PORTS = st.integers(0, 65535)
PAIRS = st.one_of(
    *(
        st.tuples(
            st.tuples(st.ip_addresses(v=family).map(str), PORTS),
            st.tuples(st.ip_addresses(v=family).map(str), PORTS),
        )
        for family in (4, 6)
    )
)
VERSIONS: st.SearchStrategy[Version] = st.sampled_from(["V1", "V2"])
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


@given(VERSIONS, PAIRS, st.binary(max_size=20))
def test_what_is_written_is_read(
    version: Version, pair: tuple[tuple[str, int], tuple[str, int]], rest: bytes
) -> None:
    raw = write_header(version, *pair)
    for cut in range(len(raw)):
        assert read_header(raw[:cut]) is None
    assert read_header(raw + rest) == ProxyHeader(len(raw), pair[0][0])


@given(VERSIONS)
def test_unknown(version: Version) -> None:
    for source in (None, ("::1", 1), ("no address", 1)):
        raw = write_header(version, source, ("127.0.0.1", 1))
        assert read_header(raw) == ProxyHeader(len(raw), "")


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11"]),
)
def test_noise_never_surprises(noise: bytes, begin: bytes) -> None:
    try:
        found = read_header(begin + noise)
    except BadProxyHeader:
        return
    assert found is None or 0 < found.length <= len(begin + noise)


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
        b"PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 ::1 5.6.7.8 1 2\r\n",
        b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 " + b"1" * 100 + b"\r\n",
        b"proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        SIGNATURE + b"\x31\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x41\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x13\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),
        SIGNATURE + b"\x21\x21\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\xff\xff",
        b"\r\n\r\n\0\r\nQUIX",
    ],
)
def test_hostile_headers(raw: bytes) -> None:
    with pytest.raises(BadProxyHeader):
        read_header(raw)
