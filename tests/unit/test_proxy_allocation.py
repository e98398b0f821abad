from __future__ import annotations

import platform
import subprocess
import sys

import pytest

READS = 2000
PROGRAM = f"""
import os
import resource
from ray_mesh.proxy.allocation import keep_read_buffers

keep_read_buffers()
source, sink = os.pipe()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({READS}):
    os.write(sink, b"x")
    os.read(source, 256 * 1024)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that is told")
def test_reads_into_large_buffers_take_no_new_pages() -> None:
    faults = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True, text=True)
    assert int(faults.stdout) < READS / 10
