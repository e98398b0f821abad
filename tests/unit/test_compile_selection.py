from __future__ import annotations

import json

import pytest
from compile_world import document, service, workload

from ray_mesh.compile import World
from ray_mesh.compile.selection import selects
from ray_mesh.resources import Document, from_json

POLICY = "AuthorizationPolicy"


def world(*documents: Document) -> World:
    return World({one.key: one for one in documents})


def names(found: list[Document]) -> list[str]:
    return [one.name for one in found]


def policy(name: str, labels: dict[str, str] | None) -> Document:
    plain = {
        "apiVersion": "security.istio.io/v1",
        "kind": POLICY,
        "metadata": {"name": name, "namespace": "default"},
        "spec": {} if labels is None else {"selector": {"matchLabels": labels}},
    }
    return from_json(json.dumps(plain))


WORKLOADS = [
    workload("a", "v1"),
    workload("a", "v2"),
    workload("b", "v1"),
    workload("a", "v1", namespace="prod"),
]


@pytest.mark.parametrize(
    ("selector", "picked"),
    [
        ({}, ["a-v1", "a-v2", "b-v1"]),
        ({"app": "a"}, ["a-v1", "a-v2"]),
        ({"version": "v1"}, ["a-v1", "b-v1"]),
        ({"app": "a", "version": "v2"}, ["a-v2"]),
        ({"app": "a", "version": "v3"}, []),
        ({"app": "v1"}, []),
    ],
)
def test_workloads_are_picked_by_all_labels_of_a_selector(
    selector: dict[str, str], picked: list[str]
) -> None:
    mesh = world(*WORKLOADS)
    assert names(mesh.picked("workload", "default", selector)) == picked
    assert picked == [one.name for one in WORKLOADS if one.namespace == "default" and selects(selector, one)]


def test_what_picks_a_workload_is_found_whatever_its_selector_says() -> None:
    policies = [
        policy("all", None),
        policy("also-all", {}),
        policy("by-app", {"app": "a"}),
        policy("by-both", {"version": "v1", "app": "a"}),
        policy("by-more", {"app": "a", "tier": "x"}),
        policy("by-version", {"version": "v2"}),
    ]
    mesh = world(*WORKLOADS, *policies)
    found = mesh.picking("authorizationpolicy", "default", WORKLOADS[0])
    assert names(found) == ["all", "also-all", "by-app", "by-both"]
    assert mesh.picking("authorizationpolicy", "prod", WORKLOADS[3]) == []


def test_a_changed_label_is_found_under_the_new_value_only() -> None:
    before = world(*WORKLOADS, service("a"), service("b"))
    moved = document("Workload", "a-v1", json.dumps(json.loads(WORKLOADS[0].json)["spec"]), labels="{app: b}")
    after = before.replace({moved.key: moved})
    assert names(before.picked("workload", "default", {"app": "b"})) == ["b-v1"]
    assert names(after.picked("workload", "default", {"app": "b"})) == ["a-v1", "b-v1"]
    assert names(after.picked("workload", "default", {"app": "a"})) == ["a-v2"]
    assert names(after.picking("service", "default", moved)) == ["b"]


def test_an_entry_that_lists_its_endpoints_picks_nothing() -> None:
    ports = "[{number: 80, name: http, protocol: HTTP}]"
    spec = f"{{hosts: [x.test], resolution: STATIC, endpoints: [{{address: 10.0.0.1}}], ports: {ports}}}"
    listing = document("ServiceEntry", "x", spec)
    assert world(listing, *WORKLOADS).picking("serviceentry", "default", WORKLOADS[0]) == []
