"""The same documents give the same bytes in every process, in whatever order they come."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "bench"))

import config_compile

SERVICES = 25
PRINT_DIGEST = f"import test_compile_deterministic as one; print(one.digest({SERVICES}, one.seed()))"


def seed() -> int:
    return int(os.environ["PYTHONHASHSEED"])


def digest(services: int, turn: int) -> str:
    """Over all that a shard writes for the bench's mesh, its documents rotated by ``turn`` hundredths."""
    documents = config_compile.documents(services)
    start = len(documents) * turn // 100
    writes = config_compile.compiled([*documents[start:], *documents[:start]])
    whole = hashlib.sha256()
    for write in writes:
        whole.update(write.stored_key.encode() + b"\0" + write.compiled.resource)
    return f"{len(writes)} {whole.hexdigest()}"


def test_two_processes_write_the_same_in_the_same_order() -> None:
    outputs = []
    for chosen in ("1", "77"):
        environment = os.environ | {"PYTHONHASHSEED": chosen}
        ran = subprocess.run(
            [sys.executable, "-c", PRINT_DIGEST],
            cwd=Path(__file__).parent,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ran.returncode == 0, ran.stderr
        outputs.append(ran.stdout.strip())
    assert outputs[0] == outputs[1]
    assert int(outputs[0].split()[0]) > 4 * SERVICES
