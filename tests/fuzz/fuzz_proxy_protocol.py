"""PROXY protocol headers, versions 1 and 2: no byte of the connection is taken for the header, nor the other
way round."""

from __future__ import annotations

import ipaddress

from fuzzing import fuzz

from ray_mesh.proxy.proxy_protocol import (
    MAX_BYTES,
    BadProxyHeader,
    ProxyHeader,
    read_header,
    write_header,
)


def understand(data: bytes) -> ProxyHeader | str | None:
    """The header, None for more, ``!`` for what is refused."""
    try:
        return read_header(data)
    except BadProxyHeader:
        return "!"


def check(data: bytes) -> None:
    """What was decided at a cut stays so, and a header can be written and read again."""
    whole = understand(data)
    for cut in range(min(len(data), MAX_BYTES + 1)):
        found = understand(data[:cut])
        assert found is None or found == whole, cut
    if whole is None:
        assert len(data) <= MAX_BYTES
    if isinstance(whole, ProxyHeader):
        assert 15 <= whole.length <= len(data)
        assert understand(data[: whole.length] + b"GET / HTTP/1.1\r\n") == whole
        if whole.source:
            assert str(ipaddress.ip_address(whole.source)) == whole.source
            again = write_header("V2", (whole.source, 1), (whole.source, 2))
            assert understand(again) == ProxyHeader(len(again), whole.source)


if __name__ == "__main__":
    four, six = ("192.0.2.1", 4711), ("2001:db8::1", 4711)
    seeds = [write_header(version, at, at) for version in ("V1", "V2") for at in (four, six, None)]
    fuzz(
        check, [*seeds, *(each + b"\x03\0\x01xGET /" for each in seeds), b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n"]
    )
