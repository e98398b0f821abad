"""The state file: how a program on this machine finds a running mesh, and the token of its API.

Whoever can read it is an administrator of the mesh, so it is written with mode 0600 and refused when
others could read or replace it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from ray_mesh import codec
from ray_mesh.errors import ConfigError, PeerError, Unavailable

SCHEMA = 1
STATE_VARIABLE = "RAY_MESH_STATE"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the NATS broker listens, and the file with the certificate to verify it with. One that is not
    ``embedded`` is somebody's own; an empty file then means the roots of the machine."""

    url: str
    ca_pem_path: str
    embedded: bool = True


@dataclass(frozen=True, slots=True)
class MeshState:
    """A running mesh as seen from its own machine.

    ``api`` is the base URL of the API, ``pid`` the process that ``ray-mesh up`` runs in (0: the mesh
    lives on a Ray cluster, and in no process of its own), ``ingress`` maps the port numbers of Gateway
    documents (as text) to base URLs, ``node`` is this machine's node, ``root_pem`` the mesh's trust
    root, which an ``api`` of https is verified with.
    """

    name: str
    version: str
    api: str
    token: str = field(repr=False)
    pid: int
    ingress: dict[str, str]
    broker: Broker
    state_dir: str
    node: str
    root_pem: str = ""
    schema: int = SCHEMA


def default_path(name: str = "") -> Path:
    """The state file of the mesh ``name``: ``$RAY_MESH_STATE`` when no name is given and it is set, else
    ``<name or default>.json`` in ``$XDG_STATE_HOME/ray-mesh`` (``~/.local/state/ray-mesh``).

    Raises:
        ConfigError: the name could leave that folder.
    """
    chosen = os.environ.get(STATE_VARIABLE, "")
    if chosen and not name:
        return Path(chosen)
    if name and not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} cannot name a mesh: use 1 to 64 of A-Z a-z 0-9 _ -")
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(home) / "ray-mesh" / f"{name or 'default'}.json"


def read_state(path: Path) -> MeshState:
    """Read a state file.

    Raises:
        Unavailable: there is none, so no mesh runs here.
        ConfigError: it is open to others, or was written by another version; the message says what to do.
    """
    from ray_mesh.security.sealed import read_private

    if not path.exists():
        raise Unavailable(
            f"no mesh is running here: {path} does not exist. "
            f"Start one with `ray-mesh up`, or point ${STATE_VARIABLE} at its state file"
        )
    try:
        plain = json.loads(read_private(path))
        schema = plain["schema"]
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path} is not a state file of a mesh: {error!r}") from error
    if schema != SCHEMA:
        raise ConfigError(f"{path} has schema {schema}, this build reads {SCHEMA}: use the same version")
    try:
        return codec.from_plain(MeshState, plain)
    except PeerError as error:
        raise ConfigError(f"{path} is not a state file of a mesh: {error}") from error


def write_state(path: Path, state: MeshState) -> None:
    """Write a state file, whole or not at all, readable by its owner only.

    Raises:
        ConfigError: the folder cannot be made or written.
    """
    from ray_mesh.security.sealed import write_private

    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, json.dumps(dataclasses.asdict(state), indent=2).encode())
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error


def remove_state(path: Path, pid: int) -> None:
    """Remove a state file if it is (still) that of the process ``pid``."""
    try:
        if read_state(path).pid == pid:
            path.unlink()
    except (Unavailable, ConfigError, FileNotFoundError):
        return
