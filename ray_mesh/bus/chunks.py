"""Compiled resources that are too large for one message of the broker.

The value of such a key has :class:`~ray_mesh.bus.messages.Parts` instead of the resource: it is signed like
any other and names its chunks by digest. They stand beside it under keys of their own and are written in one
atomic batch with it, so that the last values always fit together; the comparison of the value's revision
guards all of them. Who reads puts the resource together and verifies it first: none is ever used in part.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import replace

from ray_mesh.bus import subjects
from ray_mesh.bus.client import Bus
from ray_mesh.bus.messages import Compiled, Parts, decode, encode
from ray_mesh.bus.store import TIMEOUT_S, Entry, Write, fetch
from ray_mesh.errors import ConfigError, PeerError, Unavailable

WHOLE_BYTES = 768 << 10
"""A resource up to this size travels in one message, of which the broker takes 1 MB."""
CHUNK_BYTES = 512 << 10
MAX_CHUNKS = 64
MAX_BYTES = 64 << 20
"""Of a resource."""
ATTEMPTS = 5

_CHUNK = "chunk"

Sign = Callable[[bytes], str]


class Apart(Unavailable):
    """A value and its chunks do not fit together, however often they are read."""


def writes(bucket: str, key: str, compiled: Compiled, expected: int, sign: Sign, had: int = 0) -> list[Write]:
    """What to store as one batch for a resource of any size, its value last; ``had`` is how many chunks the
    key has now, of which those that are not needed any more are emptied.

    Raises:
        ConfigError: it is larger than :data:`MAX_BYTES`.
    """
    value, pieces = compiled, list[bytes]()
    if len(compiled.resource) > WHOLE_BYTES:
        value, pieces = split(compiled)
    parts = [*pieces, *([b""] * (had - len(pieces)))]
    stored = [Write(chunk_key(bucket, key, number), part, "") for number, part in enumerate(parts)]
    raw = encode(value)
    return [*stored, Write(key, raw, sign(raw), expected, len(pieces))]


def split(compiled: Compiled) -> tuple[Compiled, list[bytes]]:
    """A resource as a value that names its chunks, and these.

    Raises:
        ConfigError: it is larger than :data:`MAX_BYTES`.
    """
    raw = compiled.resource
    packed = zlib.compress(raw, 1) if len(raw) <= MAX_BYTES else b""
    pieces = [packed[start : start + CHUNK_BYTES] for start in range(0, len(packed), CHUNK_BYTES)]
    if not 0 < len(pieces) <= MAX_CHUNKS:
        raise ConfigError(
            f"{compiled.key} has {len(raw)} bytes. A resource has at most {MAX_BYTES}, and "
            f"{MAX_CHUNKS} chunks of {CHUNK_BYTES} when compressed: divide the service"
        )
    parts = Parts(tuple(map(_digest, pieces)), len(raw), _digest(raw))
    return replace(compiled, resource=b"", parts=parts), pieces


def join(compiled: Compiled, pieces: tuple[bytes, ...]) -> Compiled:
    """A verified value with its resource in it, whether it was in parts or not.

    Raises:
        PeerError: the pieces are not those that it names.
    """
    parts = compiled.parts
    if parts is None:
        return compiled
    if parts.size > MAX_BYTES or tuple(map(_digest, pieces)) != parts.chunks:
        raise PeerError(f"{compiled.key}: its chunks are missing, or are not what was signed")
    unpacking = zlib.decompressobj()
    try:
        raw = unpacking.decompress(b"".join(pieces), parts.size or 1)
    except zlib.error as error:
        raise PeerError(f"{compiled.key}: its chunks cannot be read: {error}") from error
    if len(raw) != parts.size or _digest(raw) != parts.sha256:
        raise PeerError(f"{compiled.key}: its chunks are not the resource that was signed")
    return replace(compiled, resource=raw, parts=None)


async def fetch_whole(bus: Bus, bucket: str, key: str, timeout_s: float = TIMEOUT_S) -> Entry | None:
    """As :func:`~ray_mesh.bus.store.fetch`, with the chunks of a value that has some.

    Raises:
        Unavailable: the bucket does not answer.
        Apart: the chunks are not those of the value, or it is replaced faster than it can be read.
    """
    for _ in range(ATTEMPTS):
        entry = await fetch(bus, bucket, key, timeout_s)
        if entry is None or not entry.chunks:
            return entry
        wanted = _named(entry)
        keys = [chunk_key(bucket, key, number) for number in range(len(wanted))]
        found = [await fetch(bus, bucket, one, timeout_s) for one in keys]
        pieces = tuple(one.value if one is not None else b"" for one in found)
        if tuple(map(_digest, pieces)) == wanted:
            return replace(entry, parts=pieces)
    raise Apart(f"{key} of {bucket} and its chunks do not fit together: it is read again")


def chunk_key(bucket: str, key: str, number: int) -> str:
    """Where a chunk of a key stands: of a private key, among those that its node may read."""
    if bucket == subjects.SHARED_BUCKET:
        return f"{_CHUNK}.{number}.{key}"
    node, _, rest = key.partition(".")
    return f"{node}.{_CHUNK}.{number}.{rest}"


def is_chunk(bucket: str, key: str) -> bool:
    """Whether a key is that of a chunk."""
    return key.split(".")[0 if bucket == subjects.SHARED_BUCKET else 1] == _CHUNK


def _named(entry: Entry) -> tuple[bytes, ...]:
    """The digests in a value that is not verified yet. None where they are not as they must be: then it is
    whoever verifies it that refuses it."""
    try:
        parts = decode(Compiled, entry.value).parts
    except PeerError:
        return ()
    return parts.chunks if parts is not None and len(parts.chunks) <= MAX_CHUNKS else ()


def _digest(raw: bytes) -> bytes:
    return hashlib.sha256(raw).digest()
