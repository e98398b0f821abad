"""The gateway's copy of desired state: only documents that admission signed, each under its own key.

A value that is staged (see :mod:`ray_mesh.gateway.sets`) is not there before its set is switched; then all of
the set is, in one step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ray_mesh.bus.messages import Before, Desired, Switch, decode
from ray_mesh.bus.store import Entry
from ray_mesh.compile import World
from ray_mesh.errors import MeshError, PeerError
from ray_mesh.resources import Document, from_json
from ray_mesh.security.signing import VerifyKey

PURPOSE = "desired"
SWITCHES = "set.mesh."
"""What the keys of switches begin with."""


@dataclass(frozen=True, slots=True)
class Record:
    """One live object: the document, how it was admitted, and the revision that put it in force."""

    document: Document
    desired: Desired
    revision: int


@dataclass(frozen=True, slots=True)
class Staged:
    """What comes into force under a key with its set. ``at`` is when it was written (Unix seconds)."""

    desired: Desired
    document: Document | None
    at: float


class DesiredState:
    """Entries in, verified documents out. Pure but for its key; one loop feeds it."""

    def __init__(self, verify: VerifyKey) -> None:
        self._verify = verify
        self._revisions: dict[str, int] = {}
        self._switched: dict[str, int] = {}
        self._since: dict[str, int] = {}
        self.staged: dict[str, Staged] = {}
        self.records: dict[str, Record] = {}
        self.head = 0
        self.refused: dict[str, str] = {}

    def put(self, entry: Entry) -> tuple[str, ...]:
        """Take one committed write; an older one than is known changes nothing. Returns the keys whose
        records changed.

        Raises:
            MeshError: it was not signed by admission, or is not readable. What was there stays, and
                its reason is kept in ``refused`` until a good write comes.
        """
        if entry.revision <= self._revisions.get(entry.key, 0):
            return ()
        self._revisions[entry.key] = entry.revision
        self.head = max(self.head, entry.revision)
        try:
            changed = self._switch(entry) if is_switch(entry.key) else self._take(entry)
        except MeshError as error:
            self.refused[entry.key] = str(error)
            raise
        self.refused.pop(entry.key, None)
        return changed

    def _take(self, entry: Entry) -> tuple[str, ...]:
        desired = self.read(entry)
        document = _document(desired)
        was_staged = self.staged.pop(entry.key, None) is not None
        if desired.is_taken_back and was_staged:
            return ()
        if desired.before is None:
            return self._keep(desired, document, entry.revision)
        if desired.set_id in self._switched:
            return self._keep(desired, document, self._switched[desired.set_id])
        self.staged[entry.key] = Staged(desired, document, entry.at)
        record = self.records.get(entry.key)
        before = _as_it_was(desired.key, desired.before)
        if record is not None and record.desired == before:
            return ()
        return self._keep(before, _document(before), desired.before.revision)

    def _switch(self, entry: Entry) -> tuple[str, ...]:
        switch = read_switch(entry, self._verify)
        self._switched[switch.set_id] = entry.revision
        ready = [key for key, one in self.staged.items() if one.desired.set_id == switch.set_id]
        for key in ready:
            staged = self.staged.pop(key)
            self._keep(staged.desired, staged.document, entry.revision)
        return tuple(ready)

    def _keep(self, desired: Desired, document: Document | None, revision: int) -> tuple[str, ...]:
        self._since[desired.key] = revision
        if document is not None:
            plain = replace(desired, before=None, is_taken_back=False)
            self.records[desired.key] = Record(document, plain, revision)
        elif self.records.pop(desired.key, None) is None:
            return ()
        return (desired.key,)

    def in_force_since(self, desired: Desired, revision: int) -> int | None:
        """The revision that put in force what was stored under ``revision``; None when none did."""
        return revision if desired.before is None else self._switched.get(desired.set_id)

    def read(self, entry: Entry) -> Desired:
        """The verified message in an entry.

        Raises:
            PeerError: not signed by admission, not readable, or signed for another key.
        """
        return verified(entry, self._verify)

    def revision_of(self, key: str) -> int:
        """The last revision of a key, deletions included; 0 when it was never written."""
        return self._revisions.get(key, 0)

    def changed_since(self, revision: int) -> list[str]:
        """The keys whose objects came, changed or went after a revision, sorted."""
        return sorted(key for key, since in self._since.items() if since > revision)

    def documents(self) -> dict[str, Document]:
        """All live documents by key."""
        return {key: record.document for key, record in self.records.items()}

    def world_from(self, world: World) -> World:
        """The world of all live documents, from an older one: what did not change is not indexed again."""
        known = world.documents
        changes: dict[str, Document | None] = {
            key: record.document
            for key, record in self.records.items()
            if known.get(key) is not record.document
        }
        changes.update(dict.fromkeys(known.keys() - self.records.keys()))
        return world.replace(changes) if changes else world

    def reset(self) -> None:
        """The bucket was made anew: what was known is void."""
        self._revisions.clear()
        self._switched.clear()
        self._since.clear()
        self.staged.clear()
        self.records.clear()
        self.refused.clear()
        self.head = 0


def verified(entry: Entry, verify: VerifyKey) -> Desired:
    """The message in an entry.

    Raises:
        PeerError: not signed by admission, not readable, or signed for another key.
    """
    verify.verify(PURPOSE, entry.value, entry.signature)
    desired = decode(Desired, entry.value)
    if desired.key != entry.key:
        raise PeerError(f"{entry.key}: holds a document that was signed for {desired.key}")
    return desired


def is_switch(key: str) -> bool:
    """Whether a key holds a switch instead of a document."""
    return key.startswith(SWITCHES)


def read_switch(entry: Entry, verify: VerifyKey) -> Switch:
    """The switch in an entry.

    Raises:
        PeerError: not signed by admission, not readable, or signed for another set.
    """
    verify.verify(PURPOSE, entry.value, entry.signature)
    switch = decode(Switch, entry.value)
    if SWITCHES + switch.set_id != entry.key:
        raise PeerError(f"{entry.key}: holds a switch that was signed for {switch.set_id}")
    return switch


def live_documents(entries: Iterable[Entry], verify: VerifyKey) -> list[str]:
    """The documents that are in force when these are the last values of all keys.

    Raises:
        PeerError: one of them is not what admission signed for its key.
    """
    switched, found = set(), []
    for entry in entries:
        if is_switch(entry.key):
            switched.add(read_switch(entry, verify).set_id)
        else:
            found.append(verified(entry, verify))
    documents = (
        one.document if one.before is None or one.set_id in switched else one.before.document for one in found
    )
    return [document for document in documents if document]


def _document(desired: Desired) -> Document | None:
    return from_json(desired.document, desired.admitted_at) if desired.document else None


def _as_it_was(key: str, before: Before) -> Desired:
    return Desired(
        key, before.document, before.admitted_at, before.author, before.set_id, comment=before.comment
    )
