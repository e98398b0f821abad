"""Every message survives the wire, every reader only fails in our way, and followers converge."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_mesh.bus import messages
from ray_mesh.bus.ledger import Ledger
from ray_mesh.bus.store import Entry
from ray_mesh.errors import PeerError

MESSAGES = [
    kind
    for kind in vars(messages).values()
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__ == messages.__name__
]

SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=20),
    bytes: st.binary(max_size=20),
    int: st.integers(-(2**63), 2**64 - 1),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of an annotated type."""
    if kind in SCALARS:
        return SCALARS[kind]
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return st.sampled_from(args)
    if origin is tuple and args[-1] is Ellipsis:
        return st.lists(values(args[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values, args))
    if origin is UnionType:
        return st.one_of(*(st.none() if one is NoneType else values(one) for one in args))
    if origin is dict:
        return st.dictionaries(st.text(max_size=10), values(args[1]), max_size=3)
    hints = get_type_hints(kind)
    return st.builds(kind, **{field.name: values(hints[field.name]) for field in dataclasses.fields(kind)})


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: str(kind.__name__))
def test_a_message_survives_the_wire(kind: type) -> None:
    @settings(max_examples=30, deadline=None)
    @given(values(kind))
    def check(message: object) -> None:
        raw = messages.encode(message)
        again: object = messages.decode(kind, raw)
        assert again == message
        assert messages.encode(again) == raw

    check()


TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(MESSAGES), st.binary(max_size=60) | TREES.map(msgpack.packb))
def test_whatever_comes_is_a_message_or_a_peer_error(kind: type, raw: bytes) -> None:
    try:
        messages.decode(kind, raw)
    except PeerError:
        return


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(MESSAGES), TREES)
def test_whatever_body_comes_is_a_message_or_a_peer_error(kind: type, body: object) -> None:
    try:
        messages.decode(kind, msgpack.packb({"v": list(messages.VERSION), "m": body}))
    except PeerError:
        return


def entry(key: str, revision: int) -> Entry:
    return Entry(key, revision, b"%d" % revision, "", 0.0)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=30),
    st.sets(st.integers(1, 30)),
    st.sets(st.integers(1, 30)),
    st.integers(0, 30),
)
def test_a_follower_delivers_in_order_and_notices_every_loss(
    writes: list[str], lost: set[int], reads: set[int], started: int
) -> None:
    """``writes`` are the keys written at revisions 1, 2, ...; messages of ``lost`` revisions never
    come; after ``reads`` a fetch of everything happens, and after each gap."""
    ledger = Ledger()
    delivered: dict[str, int] = {}
    last: dict[str, int] = {}
    missing: set[str] = set()

    def deliver(one: Entry) -> None:
        assert one.revision > delivered.get(one.key, 0)
        delivered[one.key] = one.revision

    def fetch_all() -> None:
        for key, revision in last.items():
            if ledger.fetch(entry(key, revision)):
                deliver(entry(key, revision))
        ledger.whole = True
        missing.clear()
        assert delivered == last

    for revision, key in enumerate(writes, start=1):
        predecessor, last[key] = last.get(key, 0), revision
        if revision == started:
            fetch_all()
        if revision in lost:
            if delivered.get(key) != revision:
                missing.add(key)
        else:
            verdict = ledger.hear(entry(key, revision), predecessor)
            if verdict.deliver:
                deliver(entry(key, revision))
            assert delivered[key] == revision
            if ledger.whole and key in missing:
                assert verdict.gap
            if verdict.gap:
                fetch_all()
        if revision in reads:
            fetch_all()
    fetch_all()


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=20),
    st.lists(st.integers(0, 19), max_size=40),
    st.booleans(),
)
def test_whatever_is_lost_repeated_or_out_of_order_the_last_beacon_makes_it_good(
    writes: list[str], heard: list[int], is_whole: bool
) -> None:
    """``heard`` are the writes whose messages come, in the order in which they come. A fetch sees the store
    as it was when the newest of them was sent; the beacon after all names what every key must have."""
    ledger = Ledger()
    delivered: dict[str, int] = {}
    predecessors: list[int] = []
    states: list[dict[str, int]] = []
    last: dict[str, int] = {}
    for revision, key in enumerate(writes, start=1):
        predecessors.append(last.get(key, 0))
        last = {**last, key: revision}
        states.append(last)

    def deliver(one: Entry) -> None:
        assert one.revision > delivered.get(one.key, 0), "an older value after a newer one"
        delivered[one.key] = one.revision

    def fetch(state: dict[str, int], keys: Iterable[str]) -> None:
        for key in keys:
            if key in state and ledger.fetch(entry(key, state[key])):
                deliver(entry(key, state[key]))

    ledger.whole = is_whole
    newest = 0
    for index in (one for one in heard if one < len(writes)):
        newest = max(newest, index)
        verdict = ledger.hear(entry(writes[index], index + 1), predecessors[index])
        if verdict.deliver:
            deliver(entry(writes[index], index + 1))
        if verdict.gap:
            fetch(states[newest], "abc")
    behind = ledger.behind(last)
    assert behind == {key: revision for key, revision in last.items() if delivered.get(key) != revision}
    fetch(last, behind)
    assert delivered == last


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 20), st.booleans()), max_size=40))
def test_with_versions_only_newer_ones_are_delivered_whatever_the_revisions(
    steps: list[tuple[int, int, bool]],
) -> None:
    """Stale replicas and buckets made anew give any mixture of revisions and versions."""
    ledger = Ledger(lambda one: int(one.value))
    newest = 0
    for revision, version, is_fetched in steps:
        one = Entry("a", revision, b"%d" % version, "", 0.0)
        is_new = ledger.fetch(one) if is_fetched else ledger.hear(one, revision - 1).deliver
        assert is_new == (version > newest)
        newest = max(newest, version)
        assert ledger.behind({"a": newest}) == {}
        assert ledger.behind({"a": newest + 1, "b": 1}) == {"a": newest + 1, "b": 1}
