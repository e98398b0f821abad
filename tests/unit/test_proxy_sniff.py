"""What the first bytes of a connection say."""

from __future__ import annotations

import pytest

from ray_mesh.proxy.sniff import SNIFF_BYTES, spoken


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", None),
        (b"GET", None),
        (b"GET ", None),
        (b"GET /", "http"),
        (b"POST http://a/ HTTP/1.1", "http"),
        (b"OPTIONS * HTTP/1.1", "http"),
        (b"OPTIONS * HT", None),
        (b"PRI * HTTP/", None),
        (b"PRI * HTTP/1", "other"),
        (b"OPTIONS * HTTP/2", "other"),
        (b"A" * 16 + b" http:", "http"),
        (b"A" * 16 + b" * HTTP/1", "other"),
        (b"PRI * HTTP/2.0", "http"),
        (b"EHLO example.org", "other"),
        (b"\x16\x03\x01", "other"),
        (b"get /", "other"),
        (b"A" * 17, "other"),
        (b"\0" * SNIFF_BYTES, "other"),
        (b"SSH-2.0-OpenSSH", "other"),
    ],
)
def test_spoken(data: bytes, found: str | None) -> None:
    assert spoken(data) == found


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"PRI * HTTP/2.0\r\n",
        b"A" * 16 + b" http://a/",
        b"R" * 15 + b"S * HTTP/1S",
    ],
)
def test_no_cut_changes_the_verdict(data: bytes) -> None:
    assert {spoken(data[:cut]) for cut in range(len(data))} <= {None, spoken(data)}
