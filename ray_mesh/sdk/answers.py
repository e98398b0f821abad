"""What the API answers, as frozen values. Unknown fields are ignored, so that a newer mesh is readable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, TypeVar

from ray_mesh.errors import PeerError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one object: ``created``, ``configured``, ``unchanged`` or ``deleted``."""

    kind: str
    namespace: str
    name: str
    action: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One remark of the analyzer: where, what is wrong, and what to do."""

    code: str
    severity: str
    key: str
    path: str
    message: str
    fix: str
    name: str = ""
    object: str = ""
    where: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Applied:
    """The outcome of an apply or delete. ``revision`` is what to :meth:`~AsyncMesh.wait` for."""

    revision: int
    changes: tuple[Change, ...]
    findings: tuple[Finding, ...]
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Object:
    """One document of desired state. ``manifest`` is what was applied, in canonical form."""

    kind: str
    namespace: str
    name: str
    revision: int
    admitted_at: float
    author: str
    manifest: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object; ``manifest`` is None where it was deleted."""

    revision: int
    at: float
    author: str
    set_id: str
    comment: str
    manifest: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Revision:
    """One change of the mesh: what was stored as one set. Actions are ``written`` or ``deleted``."""

    revision: int
    at: float
    author: str
    comment: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """One object that is not the same on two sides; None where there is none."""

    kind: str
    namespace: str
    name: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Proxy:
    """One live proxy. ``sync`` is SYNCED, STALE or REJECTED, with the ``reason``, by how many announcements
    of changes it is ``behind``, and for how many seconds it has not been SYNCED.
    ``admin_port`` is on loopback of its machine (0: none)."""

    proxy: str
    node: str
    state: str
    version: str
    sync: str
    reason: str
    applied: dict[str, int]
    ready: tuple[str, ...]
    address: str
    inbound_port: int
    pid: int
    svid_expires_at: float
    behind_s: float = 0.0
    admin_port: int = 0
    behind: int = 0


@dataclass(frozen=True, slots=True)
class Actor:
    """One actor of the mesh as the controller sees it."""

    role: str
    name: str
    node: str
    state: str
    pid: int
    restarts: int


@dataclass(frozen=True, slots=True)
class Status:
    """The mesh at a glance. ``problems`` are sentences; empty means all is well. ``warnings`` are sentences
    about how it was set up, which stay as long as it runs."""

    version: str
    revision: int
    nodes: tuple[str, ...]
    actors: tuple[Actor, ...]
    proxies: int
    synced: int
    problems: tuple[str, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """Something a person should know, and which part said it."""

    at: float
    severity: str
    reason: str
    message: str
    source: str
    subject: str


def read(cls: type[T], plain: Any) -> T:
    """A flat answer from its JSON object.

    Raises:
        PeerError: a field is missing: another version answered, or something that is no mesh.
    """
    if not isinstance(plain, Mapping):
        raise PeerError(f"the API answered {plain!r:.80} where a {cls.__name__} was expected")
    try:
        every = fields(cls)  # type: ignore[arg-type]
        needed = {one.name: one.default is MISSING and one.default_factory is MISSING for one in every}
        chosen = [name for name, must_be in needed.items() if must_be or name in plain]
        known = {name: _frozen(plain[name]) for name in chosen}
    except KeyError as error:
        raise PeerError(
            f"the API answered a {cls.__name__} without {error}: is it another version?"
        ) from None
    return cls(**known)


def read_many(cls: type[T], plain: Any) -> tuple[T, ...]:
    """A list of flat answers.

    Raises:
        PeerError: as :func:`read`.
    """
    if not isinstance(plain, list):
        raise PeerError(f"the API answered {plain!r:.80} where a list was expected")
    return tuple(read(cls, one) for one in plain)


def read_applied(plain: Any) -> Applied:
    """The answer of an apply or delete.

    Raises:
        PeerError: as :func:`read`.
    """
    applied = read(Applied, plain)
    return Applied(
        applied.revision,
        read_many(Change, plain["changes"]),
        read_many(Finding, plain["findings"]),
        applied.dry_run,
    )


def read_revisions(plain: Any) -> tuple[Revision, ...]:
    """The answer of a history of the mesh.

    Raises:
        PeerError: as :func:`read`.
    """
    found = read_many(Revision, plain)
    return tuple(
        replace(one, changes=read_many(Change, raw["changes"])) for one, raw in zip(found, plain, strict=True)
    )


def read_status(plain: Any) -> Status:
    """The answer of a status.

    Raises:
        PeerError: as :func:`read`.
    """
    status = read(Status, plain)
    return Status(
        status.version,
        status.revision,
        status.nodes,
        read_many(Actor, plain["actors"]),
        status.proxies,
        status.synced,
        status.problems,
        status.warnings,
    )


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
