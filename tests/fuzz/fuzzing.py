"""What the fuzz targets share. Each is a program: ``python tests/fuzz/fuzz_path.py [libFuzzer flags]``."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "hostile"))

import atheris

with atheris.instrument_imports(include=["ray_mesh.proxy"]):
    import ray_mesh.proxy.client_hello
    import ray_mesh.proxy.http1_client
    import ray_mesh.proxy.http1_server
    import ray_mesh.proxy.http2_ngh2
    import ray_mesh.proxy.http2_pure
    import ray_mesh.proxy.proxy_protocol
    import ray_mesh.proxy.sniff
    import ray_mesh.proxy.tcp_wire  # noqa: F401

LOOP = asyncio.new_event_loop()


def fuzz(check: Callable[[bytes], None], seeds: list[bytes]) -> None:
    """Call ``check`` with bytes that reach more and more code, beginning with the seeds."""
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds):
            (Path(corpus) / f"seed-{number}").write_bytes(seed)
        atheris.Setup([sys.argv[0], "-max_len=4096", *sys.argv[1:], corpus], check)
        atheris.Fuzz()
