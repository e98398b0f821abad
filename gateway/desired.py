"""The gateway's copy of desired state: only documents that admission signed, each under its own key."""

from __future__ import annotations

from dataclasses import dataclass

from ray_mesh.bus.messages import Desired, decode
from ray_mesh.bus.store import Entry
from ray_mesh.compile import World
from ray_mesh.errors import MeshError, PeerError
from ray_mesh.resources import Document, from_json
from ray_mesh.security.signing import VerifyKey

PURPOSE = "desired"


@dataclass(frozen=True, slots=True)
class Record:
    """One live object: the document, how it was admitted, and the revision that wrote it."""

    document: Document
    desired: Desired
    revision: int


class DesiredState:
    """Entries in, verified documents out. Pure but for its key; one loop feeds it."""

    def __init__(self, verify: VerifyKey) -> None:
        self._verify = verify
        self._revisions: dict[str, int] = {}
        self.records: dict[str, Record] = {}
        self.head = 0
        self.refused: dict[str, str] = {}

    def put(self, entry: Entry) -> None:
        """Take one committed write; an older one than is known changes nothing.

        Raises:
            MeshError: it was not signed by admission, or is not readable. What was there stays, and
                its reason is kept in ``refused`` until a good write comes.
        """
        if entry.revision <= self._revisions.get(entry.key, 0):
            return
        self._revisions[entry.key] = entry.revision
        self.head = max(self.head, entry.revision)
        try:
            desired = self.read(entry)
            document = from_json(desired.document, desired.admitted_at) if desired.document else None
        except MeshError as error:
            self.refused[entry.key] = str(error)
            raise
        self.refused.pop(entry.key, None)
        if document is None:
            self.records.pop(entry.key, None)
        else:
            self.records[entry.key] = Record(document, desired, entry.revision)

    def read(self, entry: Entry) -> Desired:
        """The verified message in an entry.

        Raises:
            PeerError: not signed by admission, not readable, or signed for another key.
        """
        return verified(entry, self._verify)

    def revision_of(self, key: str) -> int:
        """The last revision of a key, deletions included; 0 when it was never written."""
        return self._revisions.get(key, 0)

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
