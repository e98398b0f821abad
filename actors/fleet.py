"""Which actors should run, and what to do about those that do not. Pure: events in, instructions out.

Every role, the proxies included, follows one life: STARTING -> HEALTHY -> (DEAD | STOPPING). An
incarnation that dies is never reused: its place gets a new one under a new name, with new keys, so
that a name, a broker credential and a certificate always mean one process. A place whose actors
keep dying waits longer before the next try, up to :data:`LONGEST_PAUSE_S`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ray_mesh.actors.settings import Replicas

State = Literal["STARTING", "HEALTHY", "DEAD"]

CONTROL_ROLES = ("ca", "routing", "policy", "telemetry", "gateway")
START_DEADLINE_S = 60.0
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
STABLE_AFTER_S = 30.0
"""An actor that lived this long clears the failure count of its place."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where one actor belongs: a role, a number, and a node."""

    role: str
    index: int
    node: str


@dataclass(frozen=True, slots=True)
class StartActor:
    """Start a new incarnation of a place."""

    place: Place
    instance: str


@dataclass(frozen=True, slots=True)
class StopActor:
    """End an actor whose place is gone, or that did not come up in time."""

    place: Place
    instance: str
    reason: str


Instruction = StartActor | StopActor


@dataclass(slots=True)
class Incarnation:
    """One actor that the fleet believes in."""

    place: Place
    instance: str
    state: State
    since: float


@dataclass(slots=True)
class Failures:
    """How often a place failed in a row, and when it may try again."""

    count: int = 0
    not_before: float = 0.0


@dataclass(slots=True)
class Fleet:
    """The controller's state. ``new_suffix`` makes the part of a name that no other process had."""

    replicas: Replicas
    head: str
    new_suffix: Callable[[], str]
    running: dict[Place, Incarnation] = field(default_factory=dict)
    successors: dict[Place, Incarnation] = field(default_factory=dict)
    failures: dict[Place, Failures] = field(default_factory=dict)
    restarts: dict[Place, int] = field(default_factory=dict)

    def plan(self, nodes: Collection[str], now: float) -> list[Instruction]:
        """What to do now so that every place of the live ``nodes`` has one actor."""
        wanted = set(self._places(nodes))
        stops = []
        for actors in (self.running, self.successors):
            stops += [_retire(actors, place, "its node or place is gone") for place in _gone(actors, wanted)]
            stops += [_retire(actors, place, "it did not start in time") for place in _stuck(actors, now)]
        starts = [self._begin(place, now) for place in sorted(wanted) if self._may_start(place, now)]
        return [*stops, *starts]

    def adopt(self, place: Place, instance: str, now: float) -> None:
        """Take over an actor that an earlier controller started."""
        self.running[place] = Incarnation(place, instance, "HEALTHY", now)

    def succeed(self, instance: str, now: float) -> StartActor | None:
        """Start the one that takes the place of a running actor, which serves until :meth:`is_healthy`.

        None: it is not there any more, so that its place is filled anyway, or it has a successor.
        """
        place = next((one.place for one in self._named(instance)), None)
        if place is None or place in self.successors:
            return None
        successor = self._name(place)
        self.successors[place] = Incarnation(place, successor, "STARTING", now)
        return StartActor(place, successor)

    def is_healthy(self, instance: str, now: float) -> None:
        """The actor finished starting. A successor has the place from now on."""
        for place, one in list(self.successors.items()):
            if one.instance == instance:
                self.running[place] = self.successors.pop(place)
        for incarnation in self._named(instance):
            if incarnation.state == "STARTING":
                incarnation.state, incarnation.since = "HEALTHY", now

    def is_dead(self, instance: str, now: float) -> None:
        """The actor is gone, or failed to start; its place will be filled again."""
        for place, one in list(self.successors.items()):
            if one.instance == instance:
                del self.successors[place]
        for incarnation in self._named(instance):
            self._count_failure(incarnation, now)
            del self.running[incarnation.place]

    def members(self, role: str) -> list[Incarnation]:
        """The incarnations of one role, in the order of their places; last those about to take one."""
        return [
            actors[place]
            for actors in (self.running, self.successors)
            for place in sorted(actors)
            if place.role == role
        ]

    def validate(self) -> None:
        """Assert what must always hold."""
        names = [one.instance for one in (*self.running.values(), *self.successors.values())]
        assert len(names) == len(set(names)), "two actors share a name"
        assert all(place == one.place for place, one in self.running.items())

    def _places(self, nodes: Collection[str]) -> Iterable[Place]:
        for role in CONTROL_ROLES:
            for index in range(getattr(self.replicas, role)):
                yield Place(role, index, self.head)
        for node in nodes:
            for index in range(self.replicas.proxies):
                yield Place("proxy", index, node)

    def _may_start(self, place: Place, now: float) -> bool:
        failures = self.failures.get(place)
        filled = place in self.running or place in self.successors
        return not filled and (failures is None or now >= failures.not_before)

    def _begin(self, place: Place, now: float) -> StartActor:
        instance = self._name(place)
        self.running[place] = Incarnation(place, instance, "STARTING", now)
        return StartActor(place, instance)

    def _name(self, place: Place) -> str:
        return f"{place.role}-{place.node[:8]}-{place.index}-{self.new_suffix()}"

    def _count_failure(self, incarnation: Incarnation, now: float) -> None:
        place = incarnation.place
        self.restarts[place] = self.restarts.get(place, 0) + 1
        failures = self.failures.setdefault(place, Failures())
        lived = incarnation.state == "HEALTHY" and now - incarnation.since > STABLE_AFTER_S
        failures.count = 0 if lived else failures.count + 1
        pause = 0.0 if failures.count <= 1 else FIRST_PAUSE_S * 2 ** min(failures.count - 2, 16)
        failures.not_before = now + min(pause, LONGEST_PAUSE_S)

    def _named(self, instance: str) -> list[Incarnation]:
        return [one for one in self.running.values() if one.instance == instance]


def _gone(actors: Mapping[Place, Incarnation], wanted: Collection[Place]) -> list[Place]:
    return [place for place in actors if place not in wanted]


def _stuck(actors: Mapping[Place, Incarnation], now: float) -> list[Place]:
    return [
        place
        for place, one in actors.items()
        if one.state == "STARTING" and now - one.since > START_DEADLINE_S
    ]


def _retire(actors: dict[Place, Incarnation], place: Place, reason: str) -> StopActor:
    return StopActor(place, actors.pop(place).instance, reason)
