"""The buckets: last values with history, compare-and-set and atomic sets, on JetStream.

A bucket is a stream with KV conventions (one subject per key, revision = stream sequence, ADR-8).
Reading is Direct Get (ADR-31), sets are atomic batches (ADR-50), and every committed write is
republished on its own subject for :mod:`ray_mesh.bus.follower`. A value's signature is a header,
which Direct Get and republishing both keep. Deleting is a normal write of an empty document, so that
a deletion is signed, ordered and followed like everything else.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import Any, TypeAlias

from ray_mesh import codec
from ray_mesh.bus import subjects
from ray_mesh.bus.client import Bus
from ray_mesh.bus.envelope import Message
from ray_mesh.bus.messages import BEACON_HEADER, CHUNKS_HEADER, SIGNATURE_HEADER
from ray_mesh.errors import ConfigError, Conflict, NotFound, PeerError, Unavailable

HISTORY = {subjects.DESIRED_BUCKET: 64, subjects.SHARED_BUCKET: 2, subjects.PRIVATE_BUCKET: 2}
"""Revisions kept per key."""

MAX_BATCH = 1000
"""Writes that one atomic set can have (a limit of the broker)."""

MAX_VALUE = 1_000_000
"""Bytes of one value: the broker takes messages of 1 MB (2**20), headers included."""

EXPECTED_HEADER = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_HEAD_HEADER = "Nats-Expected-Last-Sequence"
TIMEOUT_S = 5.0
WRITE_S = 0.01
"""What each write of a set adds to the time until it has to be confirmed."""
MESH_MARK, KEY_MARK = "ray-mesh.mesh", "ray-mesh.admission-key"

_REMOVAL = " ".join(("`nats stream rm", *map(subjects.stream, subjects.BUCKETS))) + "`, one by one"
_KEY = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_WRONG_SEQUENCE = (10071, 10164)
_STREAM_EXISTS = 10058
_STREAM_MISSING = 10059
_CHUNK = 128
_UNFINISHED = "ray-mesh-unfinished"
"""Metadata of a stream that is not to be read yet."""
_SINCE = "ray-mesh.since"
"""Metadata: the last revision that a restoration wrote."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored value. ``revision`` orders all writes of a bucket; ``at`` is when (Unix seconds).

    ``chunks`` says that so many are needed to read it; ``parts`` holds those that were fetched with it.
    ``beacon`` is what it says of the beacon behind it.
    """

    key: str
    revision: int
    value: bytes
    signature: str
    at: float
    chunks: int = codec.later(0)
    parts: tuple[bytes, ...] = codec.later(())
    beacon: str = codec.later("")


Entries: TypeAlias = list[Entry]
Keys: TypeAlias = list[str]


@dataclass(frozen=True, slots=True)
class Write:
    """One value to store. ``expected`` is the revision that must be there now: 0 for none, None for any.
    ``chunks`` is how many it is put together from, ``beacon`` what it says of the beacon behind it."""

    key: str
    value: bytes
    signature: str
    expected: int | None = None
    chunks: int = 0
    beacon: str = ""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket as it is now. ``created`` names its epoch: a bucket that was made anew has another.

    ``since`` is the revision at which it was whole again after a restoration, 0 without one: what was there
    before is not known.
    """

    created: str
    head: int
    since: int = 0


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a bucket is: the mesh of that name whose admission signs with that key."""

    mesh: str
    admission_public: bytes

    def marks(self) -> dict[str, str]:
        """As metadata of a stream."""
        return {MESH_MARK: self.mesh, KEY_MARK: self.admission_public.hex()}


async def check_owner(bus: Bus, bucket: str, owner: Owner) -> None:
    """Return if there is no such bucket, or it is the owner's.

    Raises:
        ConfigError: it is of another mesh, or of nobody that we know.
        Unavailable: JetStream does not answer.
    """
    try:
        answer = await _info(bus, bucket, {})
    except NotFound:
        return
    marks = _marks(answer)
    if marks.get(KEY_MARK) == owner.marks()[KEY_MARK]:
        return
    whose = "was made by something else"
    if MESH_MARK in marks:
        whose = f"belongs to another mesh: {marks[MESH_MARK]}, with another signing key"
    raise ConfigError(
        f"bucket {bucket} at {bus.address.url} {whose}. Two meshes do not share a NATS account: give this one"
        " an account of its own. If that mesh has ended, start this one with its --state-dir, or remove what"
        f" it left: {_REMOVAL}"
    )


async def remove_buckets(bus: Bus, owner: Owner) -> None:
    """Delete the owner's three buckets with all that is in them.

    Raises:
        ConfigError: one of them is of another mesh; it and those after it are left.
        Unavailable: JetStream does not answer, or refuses.
        PolicyDenied: this credential may not.
    """
    for bucket in subjects.BUCKETS:
        await check_owner(bus, bucket, owner)
        answer = await api(bus, f"STREAM.DELETE.{subjects.stream(bucket)}", b"")
        if "error" in answer and _error_code(answer) != _STREAM_MISSING:
            raise Unavailable(f"bucket {bucket} cannot be removed: {answer['error'].get('description')}")


async def ensure_buckets(
    bus: Bus, replicas: int = 1, desired: Sequence[Entry] = (), owner: Owner | None = None
) -> bool:
    """Create the three buckets, or bring their settings up to date. Only the controller may.

    Where desired state is missing, ``desired`` (the last value of every key) is stored, under revisions
    that go on from its own. Until all of it is, nobody can read the bucket, so that nobody takes a part
    of it for the whole; a restoration that was interrupted goes on from there. ``owner`` is written on
    the buckets, for other meshes of the same NATS to see.

    Returns whether something was restored.

    Raises:
        Unavailable: JetStream does not answer, or refuses.
        ConfigError: one is there already and has another owner.
    """
    if owner is not None:
        for bucket in subjects.BUCKETS:
            await check_owner(bus, bucket, owner)
    is_restored = bool(desired) and await _restore(bus, replicas, desired, owner)
    for bucket in subjects.BUCKETS:
        marks = await _since(bus, bucket)
        await _ensure(bus, _settings(bucket, replicas, owner, marks), owner)
    return is_restored


async def _since(bus: Bus, bucket: str) -> dict[str, str]:
    """The mark of a restoration, which settings do not carry; one that has just ended makes it."""
    try:
        answer = await _info(bus, bucket, {})
    except NotFound:
        return {}
    if _is_unfinished(answer):
        return {_SINCE: str(answer["state"]["last_seq"])}
    return {name: value for name, value in _marks(answer).items() if name == _SINCE}


async def _restore(bus: Bus, replicas: int, desired: Sequence[Entry], owner: Owner | None) -> bool:
    bucket = subjects.DESIRED_BUCKET
    try:
        if not _is_unfinished(await _info(bus, bucket, {})):
            return False
    except NotFound:
        head = max(entry.revision for entry in desired)
        settings = _settings(bucket, replicas, owner, {_UNFINISHED: "yes"})
        await _ensure(bus, {**settings, "first_seq": head + 1}, owner)
    store = Store(bus, bucket)
    for start in range(0, len(desired), _CHUNK):
        chunk = desired[start : start + _CHUNK]
        results = await asyncio.gather(
            *(store.put(one.key, one.value, one.signature, expected=0) for one in chunk),
            return_exceptions=True,
        )
        for result in results:
            # Of a restoration before this one, or admitted meanwhile.
            if isinstance(result, BaseException) and not isinstance(result, Conflict):
                raise result
    return True


def _settings(
    bucket: str, replicas: int, owner: Owner | None, marks: Mapping[str, str] | None = None
) -> dict[str, Any]:
    metadata = {**(owner.marks() if owner else {}), **(marks or {})}
    return bucket_settings(bucket, replicas) | ({"metadata": metadata} if metadata else {})


async def _ensure(bus: Bus, settings: Mapping[str, Any], owner: Owner | None) -> None:
    name, payload = settings["name"], json.dumps(settings).encode()
    answer = await api(bus, f"STREAM.CREATE.{name}", payload)
    if _error_code(answer) == _STREAM_EXISTS:
        if owner is not None:
            await check_owner(bus, name.removeprefix(subjects.stream("")), owner)
        answer = await api(bus, f"STREAM.UPDATE.{name}", payload)
    if "error" in answer:
        raise Unavailable(f"the stream {name} cannot be made: {answer['error'].get('description')}")


def _is_unfinished(answer: Mapping[str, Any]) -> bool:
    return _UNFINISHED in _marks(answer)


def _marks(answer: Mapping[str, Any]) -> dict[str, str]:
    return answer.get("config", {}).get("metadata") or {}


def bucket_settings(bucket: str, replicas: int) -> dict[str, Any]:
    """The stream configuration of a bucket, as the JetStream API takes it."""
    return {
        "name": subjects.stream(bucket),
        "subjects": [subjects.stored(bucket, ">")],
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "num_replicas": replicas,
        "max_msgs_per_subject": HISTORY[bucket],
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "deny_delete": True,
        "allow_rollup_hdrs": False,
        "allow_direct": True,
        "allow_atomic": True,
        "republish": {"src": subjects.stored(bucket, ">"), "dest": subjects.republished(bucket, ">")},
    }


async def inspect(bus: Bus, bucket: str) -> Bucket:
    """The epoch and the head of a bucket. Proxies may not ask this.

    Raises:
        NotFound: there is no such bucket.
        Unavailable: JetStream does not answer, or the bucket is not whole yet.
    """
    answer = await _info(bus, bucket, {})
    if _is_unfinished(answer):
        raise Unavailable(f"bucket {bucket} is being restored: try again")
    since = int(_marks(answer).get(_SINCE, "0"))
    return Bucket(answer["created"], answer["state"]["last_seq"], since)


async def fetch(bus: Bus, bucket: str, key: str, timeout_s: float = TIMEOUT_S) -> Entry | None:
    """The last value of a key, by the only form of Direct Get that a proxy may use; None if absent.

    Raises:
        Unavailable: the bucket does not answer, or does not exist.
    """
    message = await bus.request(subjects.direct_get(bucket, check_key(key)), b"", timeout_s)
    if message.status == "404":
        return None
    _check_status(message, f"reading {key} of {bucket}")
    return entry_of(bucket, message)


class Store:
    """One bucket, read and written."""

    def __init__(self, bus: Bus, bucket: str) -> None:
        self._bus = bus
        self.bucket = bucket

    async def inspect(self) -> Bucket:
        """As :func:`inspect`."""
        return await inspect(self._bus, self.bucket)

    async def get(self, key: str) -> Entry | None:
        """The last value of ``key``, or None. On a cluster it may be slightly old: writes compare."""
        return await fetch(self._bus, self.bucket, key)

    async def put(
        self,
        key: str,
        value: bytes,
        signature: str,
        expected: int | None = None,
        *,
        head: int | None = None,
        beacon: str = "",
    ) -> int:
        """Store one value; returns its revision.

        Raises:
            Conflict: ``expected`` is not the key's last revision (0: the key exists already), or ``head``
                is not that of the bucket.
            Unavailable: no answer; the value may or may not have been stored.
            ConfigError: the key or the size cannot be stored.
        """
        headers = _write_headers(signature, expected, head, beacon)
        answer = await self._store(key, value, headers)
        if _error_code(answer) in _WRONG_SEQUENCE:
            wanted = f"revision {expected}" if head is None else f"the bucket at {head}"
            raise Conflict(f"{key}: somebody else wrote it first (expected {wanted})")
        return self._revision(answer, key)

    async def apply(self, writes: Sequence[Write], *, head: int | None = None) -> int:
        """Store a set of values, all or none; returns the last revision. The revisions of a set follow each
        other in the order of ``writes``.

        Raises:
            Conflict: one of the keys has another revision than expected, its name is in the message; or
                ``head`` is not that of the bucket.
            ConfigError: no writes, more than 1000, or the same key twice.
            Unavailable: no answer; the set may or may not have been stored, but never a part of it.
        """
        _check_batch(writes)
        if len(writes) == 1:
            one = writes[0]
            return await self.put(
                one.key, one.value, one.signature, one.expected, head=head, beacon=one.beacon
            )
        batch = secrets.token_hex(16)
        for number, write in enumerate(writes[:-1], start=1):
            await self._bus.send(
                subjects.stored(self.bucket, check_key(write.key)),
                write.value,
                _batch_headers(write, batch, number, head),
            )
        last = writes[-1]
        headers = {**_batch_headers(last, batch, len(writes), head), "Nats-Batch-Commit": "1"}
        timeout_s = TIMEOUT_S + len(writes) * WRITE_S
        answer = await self._store(last.key, last.value, headers, timeout_s)
        if _error_code(answer) in _WRONG_SEQUENCE:
            raise Conflict(await self._name_conflict(writes))
        return self._revision(answer, f"{len(writes)} keys")

    async def history(self, key: str) -> Entries:
        """All kept revisions of ``key``, oldest first."""
        found: Entries = []
        start = 1
        while True:
            query = {"seq": start, "next_by_subj": subjects.stored(self.bucket, check_key(key)), "batch": 64}
            entries, pending = await self._query(query)
            found += entries
            if not entries or not pending:
                return found
            start = entries[-1].revision + 1

    async def log(self, start: int, most: float = inf) -> Entries:
        """Kept revisions of all keys from a revision on, ``most`` of them, oldest first. Not for proxies."""
        found: Entries = []
        while True:
            batch = int(min(256, most - len(found)))
            query = {"seq": start, "next_by_subj": subjects.stored(self.bucket, ">"), "batch": batch}
            entries, pending = await self._query(query)
            found += entries
            if not entries or not pending or len(found) >= most:
                return found
            start = entries[-1].revision + 1

    async def list(self, prefix: str = "") -> Entries:
        """The last value of ``prefix`` and of every key below it, by key. Not for proxies."""
        keys = await self.keys(prefix)
        found: dict[str, Entry] = {}
        for start in range(0, len(keys), _CHUNK):
            for entry in await self._last_of(keys[start : start + _CHUNK]):
                found[entry.key] = entry
        return [found[key] for key in sorted(found)]

    async def keys(self, prefix: str = "") -> Keys:
        """Every key under ``prefix``, sorted. Not for proxies.

        Raises:
            NotFound: there is no such bucket.
        """
        every = subjects.stored(self.bucket, ">")
        found: set[str] = set()
        while True:
            answer = await _info(self._bus, self.bucket, {"subjects_filter": every, "offset": len(found)})
            page = answer["state"].get("subjects") or {}
            found.update(subject.removeprefix(every[:-1]) for subject in page)
            if not page or len(found) >= answer.get("total", 0):
                break
        return sorted(key for key in found if is_under(key, prefix))

    async def head(self) -> int:
        """The newest revision of the bucket. Not for proxies."""
        return (await inspect(self._bus, self.bucket)).head

    async def _last_of(self, keys: Sequence[str]) -> Entries:
        missing = {subjects.stored(self.bucket, key) for key in keys}
        found: Entries = []
        while missing:
            entries, pending = await self._query({"multi_last": sorted(missing)})
            found += entries
            missing -= {subjects.stored(self.bucket, entry.key) for entry in entries}
            if not entries or not pending:
                break
        return found

    async def _query(self, query: Mapping[str, object]) -> tuple[Entries, int]:
        """One batched Direct Get: the entries, and how many the broker held back."""
        subject = f"$JS.API.DIRECT.GET.{subjects.stream(self.bucket)}"
        answers = await self._bus.request_many(
            subject, json.dumps(query).encode(), _ends_batch, timeout_s=TIMEOUT_S
        )
        end = answers.pop()
        if end.status == "404":
            return [], 0
        if end.status != "204":
            _check_status(end, f"reading {self.bucket}")
        pending = int(end.headers.get("Nats-Num-Pending", "0"))
        return [entry_of(self.bucket, answer) for answer in answers], pending

    async def _store(
        self, key: str, value: bytes, headers: Mapping[str, str], timeout_s: float = TIMEOUT_S
    ) -> dict[str, Any]:
        subject = subjects.stored(self.bucket, check_key(key))
        try:
            return _json(await self._bus.request(subject, value, timeout_s, headers))
        except Unavailable as error:
            raise Unavailable(
                f"{self.bucket} did not confirm that it stored {key}: {error}. What was in force stays so "
                "until it has; `ray-mesh status` says whether the broker is away or its disk full"
            ) from error

    def _revision(self, answer: Mapping[str, Any], what: str) -> int:
        if "error" in answer:
            raise Unavailable(f"{self.bucket} did not store {what}: {answer['error'].get('description')}")
        return int(answer["seq"])

    async def _name_conflict(self, writes: Iterable[Write]) -> str:
        for write in writes:
            if write.expected is None:
                continue
            entry = await self.get(write.key)
            revision = entry.revision if entry else 0
            if revision != write.expected:
                return (
                    f"{write.key}: somebody else wrote it first "
                    f"(expected revision {write.expected}, found {revision}); nothing was stored"
                )
        return "one of the keys was written by somebody else first; nothing was stored"


def entry_of(bucket: str, message: Message) -> Entry:
    """The entry in a Direct Get answer or a republished message.

    Raises:
        PeerError: the broker's headers are missing.
    """
    headers = message.headers
    try:
        return Entry(
            key=headers["Nats-Subject"].removeprefix(subjects.stored(bucket, "")),
            revision=int(headers["Nats-Sequence"]),
            value=message.data,
            signature=headers.get(SIGNATURE_HEADER, ""),
            at=datetime.fromisoformat(headers["Nats-Time-Stamp"]).timestamp(),
            chunks=int(headers.get(CHUNKS_HEADER, "0")),
            beacon=headers.get(BEACON_HEADER, ""),
        )
    except (KeyError, ValueError) as error:
        raise PeerError(f"{message.subject}: not an entry of {bucket}: {error!r}") from error


def predecessor_of(message: Message) -> int:
    """The revision of the key before a republished write; 0 if it had none.

    Raises:
        PeerError: this is no republished write.
    """
    try:
        return int(message.headers["Nats-Last-Sequence"])
    except (KeyError, ValueError) as error:
        raise PeerError(f"{message.subject}: not a republished write: {error!r}") from error


def check_key(key: str) -> str:
    """``key`` unchanged if it can be stored.

    Raises:
        ConfigError: it is empty, too long, or has a wildcard or a character outside ``[A-Za-z0-9_.-]``.
    """
    if len(key) > 1024 or not _KEY.fullmatch(key):
        raise ConfigError(f"{key!r} cannot be a key: use names of A-Z a-z 0-9 _ - joined by dots")
    return key


def is_under(key: str, prefix: str) -> bool:
    """Whether ``key`` is ``prefix`` or below it, by whole names."""
    return not prefix or key == prefix or key.startswith(f"{prefix}.")


def _check_batch(writes: Sequence[Write]) -> None:
    if not 1 <= len(writes) <= MAX_BATCH:
        raise ConfigError(f"{len(writes)} writes: one to {MAX_BATCH} documents can be stored as one set")
    seen: set[str] = set()
    for write in writes:
        if write.key in seen:
            raise ConfigError(f"{write.key} is written twice in one set")
        seen.add(check_key(write.key))


def _write_headers(
    signature: str, expected: int | None, head: int | None = None, beacon: str = ""
) -> dict[str, str]:
    headers = {SIGNATURE_HEADER: signature} if signature else {}
    if beacon:
        headers[BEACON_HEADER] = beacon
    if expected is not None:
        headers[EXPECTED_HEADER] = str(expected)
    if head is not None:
        headers[EXPECTED_HEAD_HEADER] = str(head)
    return headers


def _batch_headers(write: Write, batch: str, number: int, head: int | None) -> dict[str, str]:
    """The head can be compared with the first message of a batch only."""
    headers = _write_headers(write.signature, write.expected, head if number == 1 else None, write.beacon)
    if write.chunks:
        headers[CHUNKS_HEADER] = str(write.chunks)
    return {**headers, "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}


def _ends_batch(message: Message) -> bool:
    return bool(message.status) and not message.data


def _check_status(message: Message, doing: str) -> None:
    if message.status:
        raise Unavailable(f"{doing}: {message.status} {message.headers.get('Description', '')}".rstrip())


async def _info(bus: Bus, bucket: str, query: Mapping[str, object]) -> dict[str, Any]:
    answer = await api(bus, f"STREAM.INFO.{subjects.stream(bucket)}", json.dumps(query).encode())
    if _error_code(answer) == _STREAM_MISSING:
        raise NotFound(f"there is no bucket {bucket}")
    if "error" in answer:
        raise Unavailable(f"bucket {bucket}: {answer['error'].get('description')}")
    return answer


async def api(bus: Bus, verb: str, payload: bytes = b"") -> dict[str, Any]:
    """One question to JetStream, such as ``INFO``.

    Raises:
        Unavailable: it does not answer.
        PolicyDenied: this credential may not ask that.
    """
    return _json(await bus.request(f"$JS.API.{verb}", payload, TIMEOUT_S))


def _json(message: Message) -> dict[str, Any]:
    try:
        answer = json.loads(message.data)
    except ValueError as error:
        raise PeerError(f"{message.subject}: the broker's answer is not JSON") from error
    if not isinstance(answer, dict):
        raise PeerError(f"{message.subject}: the broker's answer is not an object")
    return answer


def _error_code(answer: Mapping[str, Any]) -> int:
    return int(answer.get("error", {}).get("err_code", 0))
