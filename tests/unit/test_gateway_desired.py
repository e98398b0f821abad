"""The gateway's world follows its records without being made anew."""

from __future__ import annotations

from compile_world import bookinfo, routes, service, to

from ray_mesh.bus.messages import Desired
from ray_mesh.compile import World
from ray_mesh.gateway.desired import DesiredState, Record
from ray_mesh.resources import Document
from ray_mesh.security.signing import SigningKey


def state_of(documents: list[Document]) -> DesiredState:
    state = DesiredState(SigningKey.generate().verify_key)
    for one in documents:
        put(state, one)
    return state


def put(state: DesiredState, document: Document) -> None:
    desired = Desired(document.key, document.json, 1.0, "me", "set")
    state.records[document.key] = Record(document, desired, 1)


def test_the_world_follows_what_came_changed_and_went() -> None:
    state = state_of(bookinfo())
    first = state.world_from(World({}))
    assert first.documents == state.documents()

    changed = service("reviews", 9080, 9081)
    put(state, changed)
    added = routes("ratings", f"[{{route: [{to('ratings')}]}}]")
    put(state, added)
    del state.records["service.default.details"]
    second = state.world_from(first)

    assert second.documents == state.documents()
    assert second.find("kind", "Service") == World(state.documents()).find("kind", "Service")
    assert second.find("routes", "ratings.default.svc.cluster.local") == [added]
    assert first.get("service.default.details") is not None, "a world is never changed"


def test_without_changes_it_is_the_same_world() -> None:
    state = state_of(bookinfo())
    world = state.world_from(World({}))
    assert state.world_from(world) is world


def test_a_reset_empties_it() -> None:
    state = state_of(bookinfo())
    world = state.world_from(World({}))
    state.reset()
    assert state.world_from(world).documents == {}
