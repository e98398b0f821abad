"""What desired state was: versions of an object, revisions of the mesh, and what held at one of them.

The store keeps the last :data:`KEPT` writes of each key. What is older is not known, and is never guessed:
asking for it is an error.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ray_mesh.bus import subjects
from ray_mesh.bus.messages import Desired
from ray_mesh.bus.store import HISTORY, Entry, Store
from ray_mesh.errors import ConfigError, MeshError, NotFound
from ray_mesh.gateway.desired import DesiredState, is_switch
from ray_mesh.resources.kinds import KINDS, key_for

KEPT = HISTORY[subjects.DESIRED_BUCKET]
REGISTRATIONS = "workload."
"""What the keys of attached workloads begin with: they come and go by themselves."""
CONCURRENT_READS = 16
FIRST_LOOK = 512
"""Writes that are looked at first for the newest revisions."""


@dataclass(frozen=True, slots=True)
class Version:
    """One object as it was from ``revision`` on; ``document`` is empty where it was deleted."""

    key: str
    revision: int
    at: float
    author: str
    set_id: str
    comment: str
    document: str
    admitted_at: float

    @property
    def manifest(self) -> Any:
        """The document as plain values, None where it was deleted."""
        return json.loads(self.document) if self.document else None


@dataclass(frozen=True, slots=True)
class Versions:
    """The kept versions of a key, oldest first; ``is_whole`` when none was dropped."""

    key: str
    items: tuple[Version, ...]
    is_whole: bool

    def at(self, revision: int) -> Version | None:
        """What held at a revision; None when there was no object.

        Raises:
            ConfigError: that is not kept any more.
        """
        found = [one for one in self.items if one.revision <= revision]
        if found:
            return found[-1] if found[-1].document else None
        if not self.is_whole:
            oldest = self.items[0].revision if self.items else "nothing"
            raise ConfigError(
                f"{title(self.key)}: what it was at revision {revision} is not kept any more. "
                f"The last {KEPT} writes of each object are, of this one back to revision {oldest}"
            )
        return None


@dataclass(slots=True)
class Revision:
    """One change of the mesh: what was stored as one set."""

    revision: int
    at: float
    author: str
    comment: str
    set_id: str
    changes: list[Version] = field(default_factory=list)


class History:
    """Reads from the store what ``state`` has seen and does not hold any more."""

    def __init__(self, state: DesiredState, store: Store) -> None:
        self._state = state
        self._store = store

    async def versions(self, key: str) -> Versions:
        """The versions of one object.

        Raises:
            NotFound: there never was one.
            Unavailable: the store does not answer.
        """
        entries = await self._store.history(key)
        if not entries:
            raise NotFound(f"{title(key)} never existed")
        is_whole = len(entries) < KEPT
        found: list[Version] = []
        for entry in entries:
            version = self._version(entry)
            if version is not None and (version.document or found or not is_whole):
                found.append(version)
        return Versions(key, tuple(sorted(found, key=lambda one: one.revision)), is_whole)

    async def revisions(self, limit: int, *, registrations: bool = False) -> list[Revision]:
        """The newest changes of the mesh, oldest first; those of attached workloads only if asked for."""
        head, window = await self._store.head(), FIRST_LOOK
        while True:
            start = max(1, head - window)
            found = self._sets(await self._store.log(start), registrations=registrations)
            if start == 1 or len(found) > limit:
                return found[-limit:] if limit else []
            window *= 4

    async def at(self, revision: int, keys: Iterable[str] | None = None) -> dict[str, Version | None]:
        """What held at a revision, of ``keys``, or of all objects that came, changed or went since.

        Attached workloads are left out. Raises:
            NotFound: there is no such revision yet.
            ConfigError: it is not kept any more, or in the middle of a set.
        """
        await self._check(revision)
        if keys is None:
            changed = self._state.changed_since(revision)
            keys = [key for key in changed if not key.startswith(REGISTRATIONS)]
        wanted, found = list(keys), list[Versions]()
        for start in range(0, len(wanted), CONCURRENT_READS):
            chunk = wanted[start : start + CONCURRENT_READS]
            found += await asyncio.gather(*(self.versions(key) for key in chunk))
        return {one.key: one.at(revision) for one in found}

    async def _check(self, revision: int) -> None:
        bucket = await self._store.inspect()
        if revision > bucket.head:
            raise NotFound(f"there is no revision {revision} yet: the newest is {bucket.head}")
        if revision < bucket.since:
            raise ConfigError(
                f"revision {revision} is not kept: the store was restored from the mesh's copy, and its "
                f"history begins with revision {bucket.since}"
            )
        if self._is_inside_a_set(revision, await self._store.log(revision, most=2)):
            raise ConfigError(
                f"revision {revision} is in the middle of a set: `ray-mesh history` says where sets end"
            )

    def _is_inside_a_set(self, revision: int, entries: Sequence[Entry]) -> bool:
        if [one.revision for one in entries] != [revision, revision + 1]:
            return False
        here, after = (None if is_switch(one.key) else self._desired(one) for one in entries)
        plain = [one for one in (here, after) if one and one.before is None and not one.is_taken_back]
        return len(plain) == 2 and plain[0].set_id == plain[1].set_id

    def _sets(self, entries: Iterable[Entry], *, registrations: bool) -> list[Revision]:
        """Writes by set. Parts of a set follow each other, or were put in force by one switch."""
        found: dict[object, Revision] = {}
        last: tuple[int, str] = (0, "")
        number = 0
        for entry in entries:
            version = None if is_switch(entry.key) else self._version(entry)
            if version is None:
                continue
            is_next = last == (entry.revision - 1, version.set_id)
            last = entry.revision, version.set_id
            number += not is_next
            is_staged = version.revision != entry.revision
            group = found.setdefault(
                version.revision if is_staged else (number,),
                Revision(version.revision, version.at, version.author, version.comment, version.set_id),
            )
            group.revision = version.revision
            if registrations or not version.key.startswith(REGISTRATIONS):
                group.changes.append(version)
        return sorted((one for one in found.values() if one.changes), key=lambda one: one.revision)

    def _version(self, entry: Entry) -> Version | None:
        """The version that an entry made, None when it made none or admission did not sign it."""
        desired = self._desired(entry)
        if desired is None or desired.is_taken_back:
            return None
        revision = self._state.in_force_since(desired, entry.revision)
        if revision is None:
            return None
        return Version(
            entry.key,
            revision,
            entry.at,
            desired.author,
            desired.set_id,
            desired.comment,
            desired.document,
            desired.admitted_at,
        )

    def _desired(self, entry: Entry) -> Desired | None:
        try:
            return self._state.read(entry)
        except MeshError:
            return None


def title(key: str) -> str:
    """How messages name the object of a key: ``VirtualService default/reviews``."""
    kind, namespace, name = parts_of(key)
    return f"{kind} {namespace}/{name}"


def parts_of(key: str) -> tuple[str, str, str]:
    """Kind, namespace and name of the object of a key."""
    prefix, namespace, name = key.split(".", 2)
    return _KINDS.get(prefix, prefix), namespace, name


_KINDS: Mapping[str, str] = {key_for(kind, "", "").partition(".")[0]: kind for kind in KINDS}
