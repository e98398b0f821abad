"""The controller's state: every place gets one actor, and dead ones are replaced under new names."""

from __future__ import annotations

from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from ray_mesh.actors.fleet import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    START_DEADLINE_S,
    Fleet,
    Place,
    StartActor,
    StopActor,
)
from ray_mesh.actors.settings import Replicas


def make_fleet(replicas: Replicas | None = None) -> Fleet:
    numbers = count()
    return Fleet(replicas or Replicas.uniform(1, proxies=1), "head", lambda: f"{next(numbers):04x}")


def started(fleet: Fleet, nodes: list[str], now: float) -> list[StartActor]:
    return [one for one in fleet.plan(nodes, now) if isinstance(one, StartActor)]


def test_a_new_mesh_starts_every_role_on_the_head_and_proxies_on_every_node() -> None:
    fleet = make_fleet(Replicas.uniform(2, proxies=2))
    places = [one.place for one in started(fleet, ["head", "other"], 0.0)]
    assert sum(place.role == "ca" for place in places) == 2
    assert {place.node for place in places if place.role != "proxy"} == {"head"}
    assert sorted(place.node for place in places if place.role == "proxy") == [
        "head",
        "head",
        "other",
        "other",
    ]


def test_what_runs_is_not_started_again() -> None:
    fleet = make_fleet()
    for one in started(fleet, ["head"], 0.0):
        fleet.is_healthy(one.instance, 1.0)
    assert fleet.plan(["head"], 2.0) == []


def test_a_dead_actor_is_replaced_at_once_under_another_name() -> None:
    fleet = make_fleet()
    first = {one.place: one.instance for one in started(fleet, ["head"], 0.0)}
    for instance in first.values():
        fleet.is_healthy(instance, 1.0)
    place = Place("ca", 0, "head")
    fleet.is_dead(first[place], 100.0)
    (replacement,) = started(fleet, ["head"], 100.0)
    assert replacement.place == place
    assert replacement.instance != first[place]
    assert fleet.restarts[place] == 1


def test_a_place_that_keeps_failing_waits_longer_each_time() -> None:
    fleet = make_fleet()
    place = Place("ca", 0, "head")
    now = 0.0
    started(fleet, ["head"], now)
    pauses = []
    for _ in range(12):
        fleet.is_dead(fleet.running[place].instance, now)
        pause = fleet.failures[place].not_before - now
        pauses.append(pause)
        now += pause
        assert place in [one.place for one in started(fleet, ["head"], now)]
    assert pauses[0] == 0.0
    assert pauses[1] == FIRST_PAUSE_S
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_S


def test_proxies_of_a_node_that_left_are_ended() -> None:
    fleet = make_fleet()
    started(fleet, ["head", "other"], 0.0)
    (stop,) = [one for one in fleet.plan(["head"], 1.0) if isinstance(one, StopActor)]
    assert stop.place == Place("proxy", 0, "other")
    assert "gone" in stop.reason


def test_a_node_that_leaves_while_its_proxy_starts_leaves_nothing_to_wait_for() -> None:
    fleet = make_fleet()
    (instance,) = [
        one.instance for one in started(fleet, ["head", "other"], 0.0) if one.place.node == "other"
    ]
    stopped = [one.instance for one in fleet.plan(["head"], 1.0) if isinstance(one, StopActor)]
    assert stopped == [instance]
    fleet.is_healthy(instance, 1.1)
    fleet.is_dead(instance, 1.2)
    assert instance not in {one.instance for one in fleet.members("proxy")}
    assert fleet.plan(["head"], START_DEADLINE_S - 1) == []


def test_a_node_that_is_seen_again_gets_proxies_under_new_names() -> None:
    fleet = make_fleet()
    before = {one.instance for one in started(fleet, ["head", "other"], 0.0)}
    fleet.plan(["head"], 1.0)
    (again,) = started(fleet, ["head", "other"], 2.0)
    assert again.place == Place("proxy", 0, "other")
    assert again.instance not in before


def test_an_actor_that_does_not_start_in_time_is_ended_and_its_place_filled() -> None:
    fleet = make_fleet()
    first = {one.place: one.instance for one in started(fleet, ["head"], 0.0)}
    instructions = fleet.plan(["head"], START_DEADLINE_S + 1)
    stopped = {one.instance for one in instructions if isinstance(one, StopActor)}
    assert stopped == set(first.values())
    assert {one.place for one in instructions if isinstance(one, StartActor)} == set(first)


def test_an_adopted_actor_counts_as_running() -> None:
    fleet = make_fleet()
    fleet.adopt(Place("ca", 0, "head"), "ca-old", 0.0)
    assert Place("ca", 0, "head") not in [one.place for one in started(fleet, ["head"], 0.0)]


def test_a_successor_has_the_place_once_it_is_healthy_and_the_old_one_serves_until_then() -> None:
    fleet = make_fleet()
    place = Place("ca", 0, "head")
    started(fleet, ["head"], 0.0)
    old = fleet.running[place].instance
    fleet.is_healthy(old, 1.0)
    successor = fleet.succeed(old, 2.0)
    assert successor is not None
    assert fleet.succeed(old, 2.0) is None
    assert fleet.running[place].instance == old
    assert fleet.plan(["head"], 3.0) == []
    fleet.is_healthy(successor.instance, 4.0)
    assert fleet.running[place].instance == successor.instance
    assert fleet.running[place].state == "HEALTHY"
    assert fleet.succeed(old, 5.0) is None


def test_when_old_or_successor_dies_the_other_one_has_the_place() -> None:
    fleet = make_fleet()
    place = Place("ca", 0, "head")
    started(fleet, ["head"], 0.0)
    old = fleet.running[place].instance
    fleet.is_healthy(old, 1.0)
    first = fleet.succeed(old, 2.0)
    assert first is not None
    fleet.is_dead(first.instance, 3.0)
    assert fleet.running[place].instance == old
    second = fleet.succeed(old, 4.0)
    assert second is not None
    fleet.is_dead(old, 5.0)
    assert fleet.plan(["head"], 5.0) == []
    fleet.is_healthy(second.instance, 6.0)
    assert fleet.running[place].instance == second.instance


def test_a_successor_whose_node_left_or_that_does_not_start_is_ended() -> None:
    fleet = make_fleet()
    started(fleet, ["head", "n1"], 0.0)
    for one in list(fleet.running.values()):
        fleet.is_healthy(one.instance, 0.0)
    gone = fleet.succeed(fleet.running[Place("proxy", 0, "n1")].instance, 1.0)
    stuck = fleet.succeed(fleet.running[Place("ca", 0, "head")].instance, 1.0)
    assert gone is not None
    assert stuck is not None
    stopped = [one.instance for one in fleet.plan(["head"], 2.0) if isinstance(one, StopActor)]
    assert gone.instance in stopped
    late = fleet.plan(["head"], 1.0 + START_DEADLINE_S + 1.0)
    assert [one.instance for one in late if isinstance(one, StopActor)] == [stuck.instance]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["healthy", "dead", "nodes", "succeed"]), st.integers(0, 30), st.floats(0.0, 20.0)
        ),
        max_size=40,
    )
)
def test_whatever_happens_every_place_has_at_most_one_actor(events: list[tuple[str, int, float]]) -> None:
    fleet = make_fleet(Replicas.uniform(2, proxies=1))
    nodes = ["head"]
    now = 0.0
    names: set[str] = set()
    for kind, pick, elapsed in events:
        now += elapsed
        for one in started(fleet, nodes, now):
            assert one.instance not in names, "a name was used twice"
            names.add(one.instance)
        running = sorted(one.instance for one in (*fleet.running.values(), *fleet.successors.values()))
        if kind == "nodes":
            nodes = ["head", *(f"n{index}" for index in range(pick % 3))]
        elif running:
            instance = running[pick % len(running)]
            if kind == "succeed":
                successor = fleet.succeed(instance, now)
                names |= {successor.instance} if successor else set()
            else:
                (fleet.is_healthy if kind == "healthy" else fleet.is_dead)(instance, now)
        fleet.validate()
