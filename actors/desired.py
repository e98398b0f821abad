"""Desired state as a role follows it: only documents that admission signed, each under its own key."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ray_mesh.bus import subjects
from ray_mesh.bus.client import Bus
from ray_mesh.bus.follower import Follower
from ray_mesh.bus.store import Entry
from ray_mesh.gateway.desired import DesiredState, Record
from ray_mesh.resources import Document
from ray_mesh.security.signing import VerifyKey

Changed = Callable[[str, Document | None, int], None]


class DesiredFollower:
    """Follows the whole bucket. ``changed`` is told of each accepted document (None = deleted) and its
    revision, also when that alone is new; of all documents of a set without a pause between them. What
    admission did not sign changes nothing, and the follower reports it."""

    def __init__(self, admission_public: bytes, changed: Changed | None = None) -> None:
        self._state = DesiredState(VerifyKey(admission_public))
        self._changed = changed
        self._follower: Follower | None = None

    @property
    def records(self) -> Mapping[str, Record]:
        """The live documents by key."""
        return self._state.records

    async def start(self, bus: Bus) -> None:
        """Read what is there, and keep up."""
        self._follower = Follower(bus, subjects.DESIRED_BUCKET, self._heard, on_reset=self._reset)
        await self._follower.start()
        await self._follower.synced()

    async def stop(self) -> None:
        """Follow no more."""
        if self._follower is not None:
            await self._follower.stop()

    def _heard(self, entry: Entry) -> None:
        for key in self._state.put(entry) or (entry.key,):
            self._tell(key, entry.revision)

    def _reset(self) -> None:
        keys = list(self._state.records)
        self._state.reset()
        for key in keys:
            self._tell(key, 0)

    def _tell(self, key: str, revision: int) -> None:
        if self._changed is not None:
            record = self._state.records.get(key)
            self._changed(key, record.document if record else None, revision)
