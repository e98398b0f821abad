"""Checks of this machine: they need no mesh."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import re
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path

from ray_mesh.check.finding import Finding, failed, ok, skipped, warning

OLDEST_RAY = (2, 60)
MEASURED_RAY = "2.60"
FILES_NEEDED = 4096
FILES_WISHED = 65536
"""A proxy needs two descriptors for each request under way, and keeps idle connections open."""
TOKEN_FILE = Path("~/.ray/auth_token")

_UNSYNCHRONISED = 0x40
_TIMEX_BYTES = 256
_STATUS_AT = 40


def look(env: Mapping[str, str]) -> Iterator[Finding]:
    """All of them. ``env`` are the environment variables that Ray would see."""
    yield ray_version(importlib.metadata.version("ray"))
    yield token(env, TOKEN_FILE.expanduser())
    yield gcs(Path("/proc"))
    yield files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    yield clock()


def ray_version(version: str) -> Finding:
    """Whether this Ray is one that the mesh was made for."""
    numbers = tuple(int(one) for one in re.findall(r"\d+", version)[:2])
    if numbers < OLDEST_RAY:
        return failed(
            "ray",
            f"Ray {version}",
            "the mesh uses label selectors and exit behaviour of newer versions",
            f"install ray>={'.'.join(map(str, OLDEST_RAY))} on every node",
        )
    if not version.startswith(f"{MEASURED_RAY}."):
        return warning(
            "ray",
            f"Ray {version}",
            f"the mesh was tested with {MEASURED_RAY}",
            f"use ray=={MEASURED_RAY}.*, or try yours before production",
        )
    return ok("ray", f"Ray {version}")


def token(env: Mapping[str, str], file: Path) -> Finding:
    """Whether Ray asks those who connect for a token: who may run code on a node reads what is on it."""
    mode = env.get("RAY_AUTH_MODE", "")
    held = env.get("RAY_AUTH_TOKEN") or env.get("RAY_AUTH_TOKEN_PATH") or file.exists()
    if mode == "token" and not held:
        return failed(
            "token",
            "RAY_AUTH_MODE=token, and no token",
            "neither RAY_AUTH_TOKEN nor RAY_AUTH_TOKEN_PATH is set, and there is no ~/.ray/auth_token",
            "`ray get-auth-token --generate`, and the same token on every node",
        )
    if mode != "token":
        return warning(
            "token",
            f"RAY_AUTH_MODE is {mode or 'not set'}",
            "a cluster then takes anyone who reaches its ports, and runs their code beside the mesh's keys",
            "RAY_AUTH_MODE=token for `ray start` and for all who connect",
        )
    return ok("token", "RAY_AUTH_MODE=token")


def gcs(proc: Path) -> Finding:
    """Whether Ray's control store on this machine survives its own restart."""
    found = [one for one in map(_gcs_process, proc.glob("[0-9]*")) if one is not None]
    if not found:
        return skipped("gcs", "no Ray head on this machine: run this check there")
    if all(found):
        return ok("gcs", "the GCS keeps its state outside its process")
    return warning(
        "gcs",
        "the GCS keeps its state in memory",
        "when it dies, Ray ends every actor of the cluster 60 s later; until then traffic goes on",
        "give Ray an HA Redis (RAY_REDIS_ADDRESS), or RAY_gcs_storage=rocksdb with a path that stays",
    )


def files(soft_limit: int) -> Finding:
    """Whether processes that start here may open enough connections."""
    detail = f"{soft_limit if soft_limit != resource.RLIM_INFINITY else 'unlimited'} open files"
    if soft_limit == resource.RLIM_INFINITY or soft_limit >= FILES_WISHED:
        return ok("files", detail)
    make = failed if soft_limit < FILES_NEEDED else warning
    return make(
        "files",
        detail,
        "each request through a proxy holds two connections; at the limit new ones are refused",
        f"`ulimit -n {FILES_WISHED}` before `ray start`, or LimitNOFILE= of its systemd unit",
    )


def clock() -> Finding:
    """Whether the kernel holds its clock to be synchronised (``adjtimex``)."""
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
    if ctypes.CDLL(None, use_errno=True).adjtimex(buffer) < 0:
        return skipped("clock", f"the kernel does not say: {os.strerror(ctypes.get_errno())}")
    status = int.from_bytes(buffer.raw[_STATUS_AT : _STATUS_AT + 4], "little")
    if status & _UNSYNCHRONISED:
        return warning(
            "clock",
            "the kernel's clock is not synchronised",
            "nothing tells the kernel the right time (in a container its host may do so, unseen); "
            "certificates and beacons are refused when clocks differ by more than 30 s",
            "run chrony or systemd-timesyncd on every machine",
        )
    return ok("clock", "the kernel's clock is synchronised")


def _gcs_process(folder: Path) -> bool | None:
    """None: not a GCS, or not ours to see. Else whether it has a store of its own."""
    try:
        words = (folder / "cmdline").read_bytes().split(b"\0")
        if not words[0].endswith(b"gcs_server"):
            return None
        environment = (folder / "environ").read_bytes().split(b"\0")
    except OSError:
        return None
    has_redis = any(word.startswith(b"--redis_address=") and len(word) > 16 for word in words)
    return has_redis or b"RAY_gcs_storage=rocksdb" in environment
