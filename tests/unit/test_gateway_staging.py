"""What is staged is not in force before its set is switched, in whatever order its entries come."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from compile_world import service

from ray_mesh.bus.messages import Before, Desired, Switch, encode
from ray_mesh.bus.store import Entry
from ray_mesh.errors import PeerError
from ray_mesh.gateway.desired import PURPOSE, SWITCHES, DesiredState, live_documents
from ray_mesh.gateway.export import DesiredCopy, read_export, write_export
from ray_mesh.security.signing import SigningKey

SIGNING = SigningKey.generate()
A, B, A2 = service("a", 80), service("b", 80), service("a", 81)
NOTHING = Before("", 0.0, "", "", 0)


def entry(message: Desired | Switch, revision: int, at: float = 0.0) -> Entry:
    value = encode(message)
    key = message.key if isinstance(message, Desired) else SWITCHES + message.set_id
    return Entry(key, revision, value, SIGNING.sign(PURPOSE, value), at)


FIRST = entry(Desired(A.key, A.json, 1.0, "ann", "s0"), 1)
STAGED = [
    entry(Desired(A.key, A2.json, 1.0, "bob", "s1", before=Before(A.json, 1.0, "ann", "s0", 1)), 2),
    entry(Desired(B.key, B.json, 5.0, "bob", "s1", before=NOTHING), 3),
]
SWITCH = entry(Switch("s1", 2, "bob"), 4)


def state_of(*entries: Entry) -> DesiredState:
    state = DesiredState(SIGNING.verify_key)
    for one in entries:
        state.put(one)
    return state


def seen(state: DesiredState) -> dict[str, tuple[str, float, str, int]]:
    return {
        key: (one.document.json, one.document.admitted_at, one.desired.author, one.revision)
        for key, one in state.records.items()
    }


OLD = {A.key: (A.json, 1.0, "ann", 1)}
NEW = {A.key: (A2.json, 1.0, "bob", 4), B.key: (B.json, 5.0, "bob", 4)}


def test_all_of_a_set_is_there_with_its_switch_and_nothing_before() -> None:
    state = state_of(FIRST)
    for one in STAGED:
        assert state.put(one) == ()
        assert seen(state) == OLD
    assert state.revision_of(A.key) == 2, "compare-and-set goes by what is stored"
    assert sorted(state.put(SWITCH)) == [A.key, B.key]
    assert seen(state) == NEW
    assert not state.staged


@pytest.mark.parametrize("order", list(permutations([*STAGED, SWITCH])))
def test_last_values_are_read_in_any_order(order: tuple[Entry, ...]) -> None:
    assert seen(state_of(*order)) == NEW


@pytest.mark.parametrize("order", list(permutations(STAGED)))
def test_without_a_switch_what_was_is_in_force(order: tuple[Entry, ...]) -> None:
    state = state_of(*order)
    assert seen(state) == OLD
    assert live_documents(order, SIGNING.verify_key) == [A.json]


def test_what_is_written_over_a_staged_value_stays() -> None:
    over = entry(Desired(B.key, B.json, 6.0, "eve", "s2"), 4)
    state = state_of(FIRST, *STAGED, over, entry(Switch("s1", 2, "bob"), 5))
    assert seen(state)[B.key] == (B.json, 6.0, "eve", 4)


def test_a_deletion_is_staged_too() -> None:
    gone = Desired(A.key, "", 9.0, "bob", "s1", before=Before(A.json, 1.0, "ann", "s0", 1))
    state = state_of(FIRST, entry(gone, 2))
    assert seen(state) == OLD
    assert state.put(entry(Switch("s1", 1, "bob"), 3)) == (A.key,)
    assert seen(state) == {}


def test_a_switch_that_admission_did_not_sign_switches_nothing() -> None:
    state = state_of(FIRST, *STAGED)
    with pytest.raises(PeerError):
        state.put(replace(SWITCH, signature=SigningKey.generate().sign(PURPOSE, SWITCH.value)))
    with pytest.raises(PeerError, match="signed for s1"):
        state.put(replace(SWITCH, key=f"{SWITCHES}s2", revision=9))
    assert seen(state) == OLD


def test_an_export_keeps_what_is_staged_as_it_is() -> None:
    copy = DesiredCopy(SIGNING.verify_key)
    for one in (FIRST, *STAGED):
        copy.put(one)
    back = read_export(write_export(copy.entries(), SIGNING, 7.0), SIGNING.verify_key).entries
    assert live_documents(back, SIGNING.verify_key) == [A.json]
    copy.put(SWITCH)
    back = read_export(write_export(copy.entries(), SIGNING, 7.0), SIGNING.verify_key).entries
    restored = [replace(one, revision=100 + place) for place, one in enumerate(reversed(back))]
    assert {key: one[0] for key, one in seen(state_of(*restored)).items()} == {A.key: A2.json, B.key: B.json}
    assert sorted(live_documents(back, SIGNING.verify_key)) == sorted([A2.json, B.json])
