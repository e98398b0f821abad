"""Sets of documents that are more than the broker stores in one step.

Each document is staged under its own key, beside what is in force there, by compare-and-set in batches that
the broker stores whole. Nobody takes it up. One write then switches the set: it is stored only if nothing
else was written to the bucket since all of the set was seen in its place, so that a set is in force whole or
not at all. A writer that ends before its switch leaves nothing in force; what it staged is taken back by
:meth:`LargeSets.sweep` of any gateway.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from ray_mesh.bus.messages import Before, Desired, Switch, encode
from ray_mesh.bus.store import MAX_BATCH, MAX_VALUE, Store, Write
from ray_mesh.errors import ConfigError, Conflict
from ray_mesh.gateway.desired import PURPOSE, SWITCHES, DesiredState
from ray_mesh.security.signing import SigningKey

ABANDONED_S = 60.0
"""What is staged for longer is taken back; from the first document of a set to its switch are seconds."""
SWITCH_ATTEMPTS = 50


class LargeSets:
    """Stages and switches, for one gateway. ``refresh`` brings ``state`` up to the store's head."""

    def __init__(
        self,
        state: DesiredState,
        store: Store,
        signing: SigningKey,
        refresh: Callable[[], Awaitable[None]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state = state
        self._store = store
        self._signing = signing
        self._refresh = refresh
        self._clock = clock

    async def store(self, messages: Sequence[Desired]) -> int:
        """Store messages of one set, all or none; returns the revision that puts them in force.

        Raises:
            Conflict: somebody else wrote one of the keys first, or keeps writing; nothing is in force.
            Unavailable: no answer; the set is in force whole or not at all.
        """
        first = messages[0]
        try:
            revisions = await self._stage(messages)
            return await self._switch(
                Switch(first.set_id, len(messages), first.author, first.comment), revisions
            )
        except Conflict:
            await self._refresh()
            await self._take_back([key for key, one in self._staged() if one.set_id == first.set_id])
            raise

    async def sweep(self) -> int:
        """Take back what writers staged and left; returns how many documents that were.

        Raises:
            Conflict: others keep writing; the next sweep goes on.
            Unavailable: the store does not answer.
        """
        oldest = self._clock() - ABANDONED_S
        left = [key for key, staged in self._state.staged.items() if staged.at < oldest]
        await self._take_back(left)
        return len(left)

    async def _stage(self, messages: Sequence[Desired]) -> dict[str, int]:
        """Returns the revision of each staged key."""
        writes = [self._sign(replace(one, before=self._before(one.key))) for one in messages]
        revisions: dict[str, int] = {}
        for start in range(0, len(writes), MAX_BATCH):
            batch = writes[start : start + MAX_BATCH]
            last = await self._store.apply(batch)
            revisions |= {one.key: last - len(batch) + 1 + place for place, one in enumerate(batch)}
        return revisions

    async def _switch(self, switch: Switch, revisions: Mapping[str, int]) -> int:
        value = encode(switch)
        signature = self._signing.sign(PURPOSE, value)
        for _ in range(SWITCH_ATTEMPTS):
            await self._refresh()
            for key, revision in revisions.items():
                if self._state.revision_of(key) != revision:
                    raise Conflict(f"{key}: somebody else wrote it first; nothing was stored")
            try:
                return await self._store.put(
                    SWITCHES + switch.set_id, value, signature, head=self._state.head
                )
            except Conflict:
                continue
        raise Conflict(f"others keep writing: gave up after {SWITCH_ATTEMPTS} tries; nothing was stored")

    async def _take_back(self, keys: Sequence[str]) -> None:
        """Write what is in force over what is staged, unless a switch is on its way."""
        for start in range(0, len(keys), MAX_BATCH):
            await self._refresh()
            chunk = [key for key in keys[start : start + MAX_BATCH] if key in self._state.staged]
            if chunk:
                writes = [self._sign(self._in_force(key)) for key in chunk]
                await self._store.apply(writes, head=self._state.head)

    def _staged(self) -> list[tuple[str, Desired]]:
        return [(key, one.desired) for key, one in self._state.staged.items()]

    def _before(self, key: str) -> Before:
        record = self._state.records.get(key)
        if record is None:
            return Before("", 0.0, "", "", 0)
        desired = record.desired
        return Before(
            desired.document,
            desired.admitted_at,
            desired.author,
            desired.set_id,
            record.revision,
            desired.comment,
        )

    def _in_force(self, key: str) -> Desired:
        record, staged = self._state.records.get(key), self._state.staged[key].desired
        if record is None:
            gone = Desired(key, "", staged.admitted_at, staged.author, staged.set_id)
            return replace(gone, is_taken_back=True)
        return replace(record.desired, is_taken_back=True)

    def _sign(self, message: Desired) -> Write:
        value = encode(message)
        if len(value) > MAX_VALUE:
            raise ConfigError(
                f"{message.key}: {len(value)} bytes with what is in force, at most {MAX_VALUE} in a set of "
                f"more than {MAX_BATCH} objects: divide it, or the set"
            )
        signature = self._signing.sign(PURPOSE, value)
        return Write(message.key, value, signature, self._state.revision_of(message.key))
