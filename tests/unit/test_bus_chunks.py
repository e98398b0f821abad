"""Resources in chunks: put together they are what was signed, or nothing."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from ray_mesh.bus import chunks, subjects
from ray_mesh.bus.chunks import chunk_key, is_chunk, join, split, writes
from ray_mesh.bus.messages import Compiled, decode
from ray_mesh.errors import ConfigError, PeerError

KEY = "endpoints.default.reviews"


def noise(size: int) -> bytes:
    return random.Random(7).randbytes(size)


def compiled(raw: bytes) -> Compiled:
    return Compiled(KEY, 5, 3, raw)


@pytest.mark.parametrize("size", [1, chunks.CHUNK_BYTES, 3 * chunks.CHUNK_BYTES + 17])
def test_what_was_split_is_joined(size: int) -> None:
    whole = compiled(noise(size))
    value, pieces = split(whole)
    assert value.resource == b""
    assert value.parts is not None
    assert all(len(piece) <= chunks.CHUNK_BYTES for piece in pieces)
    assert join(value, tuple(pieces)) == whole


def test_a_small_resource_is_written_as_it_is() -> None:
    [write] = writes(subjects.SHARED_BUCKET, KEY, compiled(b"small"), 4, lambda raw: "signed")
    assert (write.key, write.expected, write.chunks, write.signature) == (KEY, 4, 0, "signed")
    assert decode(Compiled, write.value) == compiled(b"small")


def test_a_large_one_comes_behind_its_chunks_and_empties_those_it_had_more() -> None:
    large = compiled(noise(chunks.WHOLE_BYTES + 1))
    found = writes(subjects.SHARED_BUCKET, KEY, large, 4, lambda raw: "signed", had=4)
    assert [one.key for one in found] == [*(f"chunk.{number}.{KEY}" for number in range(4)), KEY]
    assert [bool(one.value) for one in found] == [True, True, False, False, True]
    assert found[-1].chunks == 2
    assert [one.expected for one in found] == [None, None, None, None, 4]
    small = writes(subjects.SHARED_BUCKET, KEY, compiled(b"small"), 5, lambda raw: "signed", had=2)
    assert [len(one.value) > 0 for one in small] == [False, False, True]


def test_pieces_that_were_not_signed_are_refused() -> None:
    value, pieces = split(compiled(noise(2 * chunks.CHUNK_BYTES)))
    assert value.parts is not None
    swapped = (pieces[1], pieces[0], *pieces[2:])
    changed = (pieces[0][:-1] + b"x", *pieces[1:])
    for wrong in ((), tuple(pieces[:-1]), swapped, changed, (*pieces, b"")):
        with pytest.raises(PeerError, match="not what was signed"):
            join(value, wrong)
    for parts in (replace(value.parts, size=7), replace(value.parts, sha256=b"other")):
        with pytest.raises(PeerError, match="not the resource that was signed"):
            join(replace(value, parts=parts), tuple(pieces))


def test_what_says_that_it_is_larger_than_it_may_be_is_not_unpacked() -> None:
    value, pieces = split(compiled(bytes(8 << 20)))
    assert value.parts is not None
    with pytest.raises(PeerError):
        join(replace(value, parts=replace(value.parts, size=chunks.MAX_BYTES + 1)), tuple(pieces))


def test_a_resource_has_a_bound() -> None:
    with pytest.raises(ConfigError, match="divide the service"):
        split(compiled(bytes(chunks.MAX_BYTES + 1)))
    with pytest.raises(ConfigError, match="divide the service"):
        split(compiled(noise((chunks.MAX_CHUNKS + 1) * chunks.CHUNK_BYTES)))


def test_chunks_of_private_keys_are_under_their_node() -> None:
    shared, private = subjects.SHARED_BUCKET, subjects.PRIVATE_BUCKET
    assert chunk_key(private, "n1.workload.default.a", 3) == "n1.chunk.3.workload.default.a"
    assert is_chunk(private, "n1.chunk.3.workload.default.a")
    assert is_chunk(shared, chunk_key(shared, KEY, 0))
    assert not is_chunk(shared, KEY)
    assert not is_chunk(private, "chunk.workload.default.a"), "a node may be called so"
