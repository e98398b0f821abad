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
        (b"PRI * HTTP/2.0", "other"),
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
