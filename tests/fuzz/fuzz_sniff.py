"""What a connection speaks: a verdict stands, and it comes in time."""

from __future__ import annotations

from fuzzing import fuzz

from ray_mesh.proxy.sniff import SNIFF_BYTES, spoken


def check(data: bytes) -> None:
    """The verdict on a beginning is the verdict on all of it."""
    whole = spoken(data)
    for cut in range(min(len(data), SNIFF_BYTES + 8)):
        found = spoken(data[:cut])
        assert found is None or found == whole, cut
    if len(data) >= SNIFF_BYTES:
        assert whole is not None


if __name__ == "__main__":
    fuzz(
        check,
        [
            b"GET / HTTP/1.1\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"OPTIONS * HTTP/1.1\r\n",
            b"SSH-2.0-x\r\n",
        ],
    )
