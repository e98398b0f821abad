"""Desired state as one signed file, to put back when the store is lost.

Its entries are as admission signed them, and the file as a whole is signed too, so that none of them can
be left out or exchanged for an older one. What does not verify is refused whole: a mesh that came back
without one of its denials would let through what it must not. Pure: bytes in, entries out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ray_mesh.bus.messages import decode, encode
from ray_mesh.bus.store import Entry
from ray_mesh.errors import PeerError
from ray_mesh.gateway.desired import is_switch, live_documents, read_switch, verified
from ray_mesh.security.signing import SigningKey, VerifyKey

EXPORT = "export"
MAX_EXPORT = 1 << 30
"""Bytes; 10,000 documents have about 10 MB."""


@dataclass(frozen=True, slots=True)
class Export:
    """The last value of every key, deletions included, in the order of their revisions."""

    entries: tuple[Entry, ...]
    at: float

    @property
    def head(self) -> int:
        """The revision of the newest entry, 0 without any."""
        return max((entry.revision for entry in self.entries), default=0)


@dataclass(frozen=True, slots=True)
class _Signed:
    payload: bytes
    signature: str


def write_export(entries: Sequence[Entry], signing: SigningKey, at: float) -> bytes:
    """The file: the entries with the signature of the mesh's admission key over all of them."""
    payload = encode(Export(tuple(sorted(entries, key=_revision)), at))
    return encode(_Signed(payload, signing.sign(EXPORT, payload)))


def read_export(raw: bytes, verify: VerifyKey) -> Export:
    """What :func:`write_export` wrote, verified in whole and entry by entry.

    Raises:
        PeerError: it is no export of this mesh, or somebody changed it.
    """
    signed = decode(_Signed, raw)
    verify.verify(EXPORT, signed.payload, signed.signature)
    export = decode(Export, signed.payload)
    live_documents(export.entries, verify)
    if len({entry.key for entry in export.entries}) != len(export.entries):
        raise PeerError("the export has a key twice")
    return export


class DesiredCopy:
    """The last value of every key as the store had it: entries in, the content of an export out."""

    def __init__(self, verify: VerifyKey) -> None:
        self._verify = verify
        self._entries: dict[str, Entry] = {}

    def put(self, entry: Entry) -> None:
        """Take one committed write; an older one than is known changes nothing.

        Raises:
            PeerError: admission did not sign it; it is not copied.
        """
        (read_switch if is_switch(entry.key) else verified)(entry, self._verify)
        known = self._entries.get(entry.key)
        if known is None or known.revision < entry.revision:
            self._entries[entry.key] = entry

    def replace(self, entries: Sequence[Entry] = ()) -> None:
        """Begin anew with these, which are verified."""
        self._entries = {entry.key: entry for entry in entries}

    def entries(self) -> list[Entry]:
        """All of them in the order of their revisions."""
        return sorted(self._entries.values(), key=_revision)


def _revision(entry: Entry) -> int:
    return entry.revision
