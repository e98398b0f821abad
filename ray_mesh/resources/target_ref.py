"""What a policy attaches to: workloads by labels, or resources by name (Istio's ``targetRefs``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from ray_mesh.resources.schema import LATER, Flaw, Model, NonEmpty, WorkloadSelector

_GROUP = r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
_KIND = r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"
_TARGETS = {
    "Service": ("", "core"),
    "ServiceEntry": ("networking.istio.io",),
    "Gateway": ("gateway.networking.k8s.io",),
    "GatewayClass": ("gateway.networking.k8s.io",),
}
"""Kinds that a policy may name, and their groups as they are written."""


class TargetRef(Model):
    """A resource of the policy's own namespace."""

    group: Annotated[str, Field(max_length=253, pattern=_GROUP)] = ""
    kind: Annotated[str, Field(min_length=1, max_length=63, pattern=_KIND)]
    name: Annotated[NonEmpty, Field(max_length=253)]
    namespace: str = ""

    def flaws(self) -> Iterator[Flaw]:
        if self.namespace:
            yield Flaw(("namespace",), "cross namespace referencing is not currently supported")
        if self.kind not in _TARGETS:
            yield Flaw(("kind",), f"{self.kind!r} is not one of {', '.join(_TARGETS)}")
        elif self.group not in _TARGETS[self.kind]:
            right = _TARGETS[self.kind][0]
            yield Flaw(("group",), f"{self.group!r} is not the group of {self.kind}: write {right!r}")


class TargetedSpec(Model):
    """Base of the policies that hold for selected workloads, for named resources, or for all of their
    namespace. At most one of the three fields is set."""

    selector: WorkloadSelector | None = None
    target_ref: Annotated[TargetRef | None, LATER] = None
    target_refs: Annotated[tuple[TargetRef, ...] | None, Field(max_length=16), LATER] = None

    def flaws(self) -> Iterator[Flaw]:
        given = (self.selector, self.target_ref, self.target_refs)
        if sum(one is not None for one in given) > 1:
            yield Flaw((), "only one of targetRefs or selector can be set")
