"""Headers of a message, read as nats-py reads them."""

from __future__ import annotations

import pytest
from nats.aio.client import Client

from ray_mesh.bus.connection import Connection


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"Nats-Sequence: 7\r\nNats-Last-Sequence: 3\r\nMesh-Signature: ab+/=\r\n\r\n",
        b"a:b\r\nc:\td \r\n : empty\r\nno colon\r\nwith space inside: x\r\n",
        b"n\xc3\xa4me: x\r\nvalue: \xc3\xa4\r\nbad: \xff\xfe\r\ntime: 12:30:01\r\n",
    ],
)
def test_headers_are_what_nats_py_makes_of_them(raw: bytes) -> None:
    theirs = {name: value for name, value in Client._parse_header_lines(raw).items() if name}
    assert Connection._parse_header_lines(raw) == theirs
