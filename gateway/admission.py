"""Admission: the one way into desired state. What comes through is valid, analyzed and signed.

A set of documents is stored whole or not at all, each document by compare-and-set against the revision
that the analysis saw. When somebody else was first, everything is read and analyzed again. What the broker
does not take in one step goes through :mod:`ray_mesh.gateway.sets`.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Container, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

from ray_mesh.analyze import Report, analyze_mesh
from ray_mesh.bus.messages import Desired, encode
from ray_mesh.bus.store import MAX_BATCH, MAX_VALUE, Store, Write
from ray_mesh.compile import Finding, Grounds, World, admit, has_errors
from ray_mesh.compile.finding import plain
from ray_mesh.compile.suppress import Suppression
from ray_mesh.errors import ConfigError, Conflict, NotFound
from ray_mesh.gateway.desired import PURPOSE, DesiredState
from ray_mesh.gateway.sets import LargeSets
from ray_mesh.resources import KINDS, Document, load
from ray_mesh.resources.kinds import key_for, kinds_called
from ray_mesh.security.signing import SigningKey

ATTEMPTS = 5
SMALL_SET = 100, 64 << 10
"""Documents, and characters of them, that are analyzed in some 30 ms."""
ATTACHED_KIND = "Workload"

Action = Literal["created", "configured", "unchanged", "deleted"]


@dataclass(frozen=True, slots=True)
class NamedText:
    """YAML and how messages name it."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one object."""

    kind: str
    namespace: str
    name: str
    action: Action


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an apply or delete did. Everything is in force once ``revision`` is applied."""

    revision: int
    changes: tuple[Change, ...]
    findings: tuple[Finding, ...]
    dry_run: bool = False

    def to_json(self) -> dict[str, Any]:
        """As the API answers it."""
        return {
            "revision": self.revision,
            "changes": [asdict(change) for change in self.changes],
            "findings": [plain(finding) for finding in self.findings],
            "dry_run": self.dry_run,
        }


class Admission:
    """Checks, analyzes, signs and stores. ``refresh`` brings ``state`` up to the store's head, ``grounds``
    says where the mesh runs now."""

    def __init__(
        self,
        state: DesiredState,
        store: Store,
        signing: SigningKey,
        refresh: Callable[[], Awaitable[None]],
        grounds: Callable[[], Grounds],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state = state
        self._store = store
        self._signing = signing
        self.refresh = refresh
        self._grounds = grounds
        self._clock = clock
        self._world = World({})
        self.sets = LargeSets(state, store, signing, refresh, clock)

    @property
    def world(self) -> World:
        """Desired state as far as this replica has heard it."""
        self._world = self._state.world_from(self._world)
        return self._world

    async def apply(
        self, sources: Iterable[NamedText], author: str, *, comment: str = "", dry_run: bool = False
    ) -> Outcome:
        """Store all documents of all sources as one set. ``comment`` is kept in its history.

        Raises:
            ConfigError: a text or document is invalid, or the analyzer refuses it (``findings``).
            NotSupported: valid, but this build does not enforce all of it.
            Conflict: others kept changing the same objects.
            Unavailable: the store does not answer; the set is stored whole or not at all.
        """
        documents = await load_all(sources)
        for document in documents:
            if document.kind == ATTACHED_KIND:
                raise ConfigError(
                    f"{document.title} cannot be applied: workloads register by attaching "
                    "(Mesh.attach, or POST /v1/workloads)"
                )
        return await self.write(documents, author=author, comment=comment, dry_run=dry_run)

    async def analyze(
        self, sources: Iterable[NamedText], namespace: str, suppressions: Sequence[Suppression]
    ) -> Report:
        """What is wrong with desired state, with the documents of ``sources`` as if they were applied.

        Raises:
            Unavailable: the store does not answer.
        """
        await self.refresh()
        self._world = self._state.world_from(self._world)
        named = [(source.name, source.text) for source in sources]
        # A world never changes, so that a long analysis holds nobody up.
        return await asyncio.to_thread(
            analyze_mesh,
            self._world,
            named,
            self._clock(),
            self._grounds(),
            namespace=namespace,
            only=namespace,
            suppressions=suppressions,
        )

    async def delete(self, key: str, author: str) -> Outcome:
        """Delete one object.

        Raises:
            NotFound: there is none.
            ConfigError: others still need it.
            Conflict, Unavailable: as :meth:`apply`.
        """
        await self.refresh()
        if key not in self._state.records:
            raise NotFound(f"{key} does not exist")
        return await self.write((), deletions=(key,), author=author)

    async def write(
        self,
        documents: Sequence[Document],
        *,
        deletions: Sequence[str] = (),
        defaults: Sequence[Document] = (),
        author: str,
        comment: str = "",
        dry_run: bool = False,
        analyzed: bool = True,
    ) -> Outcome:
        """Store checked documents and deletions as one set, ``analyzed`` before. Raises as :meth:`apply`.

        ``defaults`` are stored only where there is no object of that key yet.
        """
        conflict: Conflict | None = None
        for _ in range(ATTEMPTS):
            await self.refresh()
            wanted = [*documents, *(one for one in defaults if one.key not in self._state.records)]
            seen = self._revisions(wanted, deletions)
            findings = await self._analyze(wanted, deletions) if analyzed else ()
            if self._revisions(wanted, deletions) != seen:
                continue
            changes = tuple(self._change(document) for document in wanted)
            changes += tuple(_deletion(self._state.records[key].document) for key in self._live(deletions))
            messages = self._messages(wanted, self._live(deletions), author, comment)
            if dry_run or not messages:
                return Outcome(self._state.head, changes, findings, dry_run)
            try:
                return Outcome(await self._put(messages), changes, findings)
            except Conflict as error:
                conflict = error
        why = conflict or "they wrote the same objects while these were analyzed"
        raise Conflict(f"gave up after {ATTEMPTS} tries, others keep writing: {why}") from conflict

    def _revisions(self, documents: Sequence[Document], deletions: Sequence[str]) -> list[int]:
        return [self._state.revision_of(key) for key in (*(one.key for one in documents), *deletions)]

    async def _analyze(self, documents: Sequence[Document], deletions: Sequence[str]) -> tuple[Finding, ...]:
        """What is small is analyzed at once; a large set must not keep the loop from its heartbeats."""
        analyze = partial(
            admit, self.world, self._dated(documents), deletions, self._grounds(), self._clock()
        )
        findings = tuple(analyze() if is_small(documents) else await asyncio.to_thread(analyze))
        if has_errors(findings):
            raise refusal(findings)
        return findings

    def _dated(self, documents: Sequence[Document]) -> list[Document]:
        now = self._clock()
        return [replace(document, admitted_at=self._admitted_at(document, now)) for document in documents]

    def _admitted_at(self, document: Document, now: float) -> float:
        """An object keeps the time it was first admitted: where two claim one thing, the oldest wins. What
        comes back from history says its own."""
        record = self._state.records.get(document.key)
        return document.admitted_at or (record.desired.admitted_at if record else now)

    def _change(self, document: Document) -> Change:
        record = self._state.records.get(document.key)
        action: Action = "created"
        if record is not None:
            action = "unchanged" if record.document.json == document.json else "configured"
        return Change(document.kind, document.namespace, document.name, action)

    def _live(self, keys: Iterable[str]) -> list[str]:
        return [key for key in keys if key in self._state.records]

    def _messages(
        self, documents: Sequence[Document], deletions: Sequence[str], author: str, comment: str
    ) -> list[Desired]:
        set_id, now = secrets.token_hex(8), self._clock()
        changed = [document for document in documents if self._change(document).action != "unchanged"]
        messages = [
            Desired(one.key, one.json, self._admitted_at(one, now), author, set_id, comment)
            for one in changed
        ]
        return messages + [Desired(key, "", now, author, set_id, comment) for key in deletions]

    async def _put(self, messages: Sequence[Desired]) -> int:
        if len(messages) > MAX_BATCH:
            return await self.sets.store(messages)
        return await self._store.apply([self._sign(message) for message in messages])

    def _sign(self, message: Desired) -> Write:
        value = encode(message)
        if len(value) > MAX_VALUE:
            raise ConfigError(f"{message.key}: {len(value)} bytes as stored, at most {MAX_VALUE}: divide it")
        signature = self._signing.sign(PURPOSE, value)
        return Write(message.key, value, signature, self._state.revision_of(message.key))


def is_small(documents: Sequence[Document]) -> bool:
    """Whether analyzing a set does not hold up the loop."""
    most, most_text = SMALL_SET
    return len(documents) <= most and sum(len(one.json) for one in documents) <= most_text


async def load_all(sources: Iterable[NamedText]) -> list[Document]:
    """The documents of all sources, read off the loop, which many of them would hold up.

    Raises:
        ConfigError: one is invalid, there is none, or an object is there twice.
        NotSupported: valid, but this build does not enforce all of it.
    """
    documents = await asyncio.to_thread(_load, tuple(sources))
    if not documents:
        raise ConfigError("the text has no document")
    seen: set[str] = set()
    for document in documents:
        if document.key in seen:
            raise ConfigError(f"{document.title} is there twice: a set has each object once")
        seen.add(document.key)
    return documents


def _load(sources: Sequence[NamedText]) -> list[Document]:
    return [document for source in sources for document in load(source.text, source.name)]


def refusal(findings: Sequence[Finding]) -> ConfigError:
    """The error that says what the analyzer refuses; the message holds the errors, ``findings`` all."""
    lines = [
        f"  {one.code} {one.key} {one.path}: {one.message}" + (f" (fix: {one.fix})" if one.fix else "")
        for one in findings
        if one.severity == "error"
    ]
    error = ConfigError("\n".join(["nothing was stored, the mesh would have these errors:", *lines]))
    error.findings = tuple({name: str(value) for name, value in plain(one).items()} for one in findings)
    return error


def key_of(kind: str, namespace: str, name: str, live: Container[str] = ()) -> str:
    """The key of desired state for an object as people name it; the kind in any case, or its short name.

    Where a word means two kinds, it is the one that has a ``live`` object of this name.

    Raises:
        ConfigError: there is no such kind, or it could be either of two objects.
    """
    keys = [key_for(one, namespace, name) for one in kinds_of(kind)]
    found = [key for key in keys if key in live]
    if len(found) > 1:
        words = " or ".join(f"{one.partition('.')[0].lower()}.{KINDS[one].group}" for one in kinds_of(kind))
        raise ConfigError(f"{kind} {namespace}/{name} is two objects: write {words}")
    return (found or keys)[0]


def kinds_of(word: str) -> list[str]:
    """The kinds that people may mean by a word.

    Raises:
        ConfigError: there is no such kind.
    """
    kinds = kinds_called(word)
    if not kinds:
        raise ConfigError(f"unknown kind {word!r}: one of {', '.join(sorted(KINDS))}")
    return kinds


def _deletion(document: Document) -> Change:
    return Change(document.kind, document.namespace, document.name, "deleted")
