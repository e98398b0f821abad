"""Which Sidecar holds for a workload, and what it says of the hosts that the workload knows.

Of the workload's namespace the oldest one whose selector picks it, else the oldest one without; else the
oldest one without in the root namespace. It narrows what can be called by name and is no security boundary.
"""

from __future__ import annotations

from collections.abc import Iterable

from ray_mesh import snapshot
from ray_mesh.compile.selection import selects
from ray_mesh.compile.world import World
from ray_mesh.resources import Document, SidecarSpec
from ray_mesh.resources.mesh import ROOT_NAMESPACE

_ANY = "*"
_OWN = "."
_NOT = "~"


def sidecar_for(world: World, workload: Document) -> Document | None:
    """The Sidecar that holds for a workload."""
    own = world.oldest("sidecar in", workload.namespace)
    for one in own:
        selector = one.read(SidecarSpec).workload_selector
        if selector is not None and selector.labels and selects(selector.labels, workload):
            return one
    for one in (*own, *world.oldest("sidecar in", ROOT_NAMESPACE)):
        if is_general(one):
            return one
    return None


def is_general(sidecar: Document) -> bool:
    """Whether it is for all workloads that no other one selects."""
    selector = sidecar.read(SidecarSpec).workload_selector
    return selector is None or not selector.labels


def compile_sidecar(world: World, workload: Document) -> snapshot.Sidecar | None:
    """What a workload knows; None when no Sidecar holds for it."""
    document = sidecar_for(world, workload)
    if document is None:
        return None
    spec = document.read(SidecarSpec)
    written = [text for listener in spec.egress for text in listener.hosts]
    named = [one for one in written if not one.startswith(_NOT)]
    without = [one.removeprefix(_NOT) for one in written if one.startswith(_NOT) and not one.startswith("~/")]
    policy = spec.outbound_traffic_policy
    return snapshot.Sidecar(
        document.title,
        egress=_hosts(document, named) if spec.egress else None,
        without=_hosts(document, without),
        outbound_policy=policy.mode if policy is not None else None,
    )


def _hosts(document: Document, written: Iterable[str]) -> tuple[snapshot.EgressHost, ...]:
    found: dict[snapshot.EgressHost, None] = {}
    for text in written:
        namespace, _, host = text.partition("/")
        namespace = document.namespace if namespace == _OWN else namespace
        found[snapshot.EgressHost("" if namespace == _ANY else namespace, host.lower())] = None
    return tuple(found)
