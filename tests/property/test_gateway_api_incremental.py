"""Compiling what a change of the Gateway API's kinds affects gives the same as compiling everything."""

from __future__ import annotations

import json
from typing import Any

import test_compile_incremental as incremental
from gateway_api_documents import SPECS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_mesh.compile import World, affected
from ray_mesh.resources import KINDS, Document, from_json

BESIDE = ("Service", "ServiceEntry", "VirtualService", "Gateway", "Workload")
ROUTES = ("HTTPRoute", "HTTPRoute", "HTTPRoute", "Gateway.gateway.networking.k8s.io")


@st.composite
def documents(draw: st.DrawFn) -> Document:
    kind = draw(st.sampled_from([*sorted(SPECS), *ROUTES, *BESIDE]))
    name, namespace = draw(incremental.NAMES), draw(incremental.NAMESPACES)
    labels = {"app": name, "version": draw(incremental.VERSIONS), "team": draw(incremental.VERSIONS)}
    if kind == "Namespace":
        name = namespace
    plain: dict[str, Any] = {
        "apiVersion": KINDS[kind].api_versions[0],
        "kind": kind.partition(".")[0],
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": draw(SPECS[kind] if kind in SPECS else incremental.SPECS[kind]),
    }
    return from_json(json.dumps(plain), draw(st.sampled_from([1.0, 2.0])))


STARTS = st.lists(documents(), min_size=4, max_size=14).map(lambda more: [*incremental.base(), *more])
CHANGES = st.lists(
    st.tuples(documents(), st.booleans()).map(lambda pair: (pair[0].key, pair[0] if pair[1] else None)),
    min_size=1,
    max_size=4,
).map(dict)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(start=STARTS, edits=st.lists(CHANGES, min_size=1, max_size=4))
def test_what_is_affected_is_enough(start: list[Document], edits: list[dict[str, Document | None]]) -> None:
    world = World({one.key: one for one in start})
    kept = incremental.everything(world)
    for changes in edits:
        after = world.replace(changes)
        for key in affected(world, after, changes):
            raw = incremental.compiled(after, key)
            if raw:
                kept[key] = raw
            else:
                kept.pop(key, None)
        world = after
        assert kept == incremental.everything(world)
