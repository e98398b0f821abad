from __future__ import annotations

from dataclasses import dataclass

import pytest

from ray_mesh import codec
from ray_mesh.bus.messages import Beacon
from ray_mesh.errors import PeerError
from ray_mesh.snapshot import Subset
from ray_mesh.telemetry.series import Histogram


def beacon(changed: dict[str, int]) -> Beacon:
    return Beacon(shard="r0", number=1, at=1.5, through=7, members=("r0", "r1"), changed=changed)


def test_the_order_of_a_map_does_not_show_in_the_bytes() -> None:
    assert codec.pack(beacon({"a": 1, "b": 2})) == codec.pack(beacon({"b": 2, "a": 1}))


def test_what_was_packed_is_read_back() -> None:
    histogram = Histogram(scale=4, zeros=1, counts=((-3, 2), (5, 1)), total=0.5, smallest=0.0, largest=0.25)
    assert codec.unpack(Histogram, codec.pack(histogram)) == histogram
    assert codec.unpack(Beacon, codec.pack(beacon({"a": 1}))) == beacon({"a": 1})


@dataclass(frozen=True)
class Before:
    name: str


@dataclass(frozen=True)
class After:
    name: str
    is_new: bool = codec.later(False)


def test_a_later_field_travels_only_when_it_says_something() -> None:
    silent, telling = After("a"), After("a", is_new=True)
    assert codec.pack(silent) == codec.pack(Before("a"))
    assert codec.unpack(Before, codec.pack(silent)) == Before("a")
    for one in (silent, telling):
        assert codec.unpack(After, codec.pack(one)) == one
    with pytest.raises(PeerError, match="is_new"):
        codec.unpack(Before, codec.pack(telling))


@pytest.mark.parametrize("pair", [["app"], ["app", 1], ["app", "x", "y"], "ab", ["app", b"x"]])
def test_a_pair_of_another_shape_is_refused(pair: object) -> None:
    plain = {"name": "v1", "labels": [pair], "balance": None}
    with pytest.raises(PeerError, match="Subset"):
        codec.from_plain(Subset, plain)


def test_a_value_that_is_no_dataclass_inside_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot be encoded"):
        codec.pack(Subset("v1", ((object(), "x"),)))  # type: ignore[arg-type]
