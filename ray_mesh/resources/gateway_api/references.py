"""References of routes: to what they attach to, and to what they send traffic to."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Annotated, Literal

from pydantic import Field

from ray_mesh.resources.gateway_api.names import (
    GROUP,
    HOSTNAMES_GROUP,
    Duration,
    GroupName,
    KindName,
    ObjectName,
    SectionName,
)
from ray_mesh.resources.schema import LATER, DnsLabel, Flaw, Later, Model, PortNumber

_PARENTS = ((GROUP, "Gateway"), ("", "Service"), (HOSTNAMES_GROUP, "ServiceEntry"))
_BACKENDS = (("", "Service"), (HOSTNAMES_GROUP, "Hostname"))


class ParentReference(Model):
    """A Gateway, or a Service (or ServiceEntry) whose callers in the mesh the route is for."""

    group: GroupName = GROUP
    kind: KindName = "Gateway"
    namespace: DnsLabel | None = None
    name: ObjectName
    section_name: SectionName | None = None
    port: PortNumber | None = None

    @property
    def is_gateway(self) -> bool:
        """Whether it is a Gateway of the Gateway API."""
        return (self.group, self.kind) == (GROUP, "Gateway")

    def flaws(self) -> Iterator[Flaw]:
        if self.kind == "Service" and self.group == GROUP and "group" not in self.model_fields_set:
            yield Flaw(("group",), 'a Service is of the core group: write group: ""', later=True)
        elif (self.group, self.kind) not in _PARENTS:
            yield Flaw(
                ("kind",),
                f"{self.kind} of {self.group or 'the core group'}: {_either(_PARENTS)}",
                later=True,
            )


class BackendObjectReference(Model):
    """A Service, or a host that a ServiceEntry has (``kind: Hostname``, as in Istio)."""

    group: GroupName = ""
    kind: KindName = "Service"
    name: ObjectName
    namespace: DnsLabel | None = None
    port: PortNumber | None = None

    @property
    def is_known(self) -> bool:
        """Whether it is of a kind that traffic can be sent to."""
        return (self.group, self.kind) in _BACKENDS

    def flaws(self) -> Iterator[Flaw]:
        if (self.group, self.kind) == ("", "Service") and self.port is None:
            yield Flaw(("port",), "Must have port for Service reference")
        elif not self.is_known:
            yield Flaw(
                ("kind",),
                f"{self.kind} of {self.group or 'the core group'}: {_either(_BACKENDS)}",
                later=True,
            )


class BackendRef(BackendObjectReference):
    """A share of a rule; a weight of 0 takes nothing."""

    weight: Annotated[int, Field(ge=0, le=1_000_000)] = 1


class CookieConfig(Model):
    """The cookie of a session."""

    lifetime_type: Literal["Permanent", "Session"] = "Session"


class SessionPersistence(Model):
    """Which requests go to the same endpoint as before."""

    session_name: Annotated[str, Field(max_length=128)] | None = None
    absolute_timeout: Duration | None = None
    idle_timeout: Duration | None = None
    type: Literal["Cookie", "Header"] = "Cookie"
    cookie_config: CookieConfig | None = None

    def flaws(self) -> Iterator[Flaw]:
        lasts = self.cookie_config is not None and self.cookie_config.lifetime_type == "Permanent"
        if lasts and self.absolute_timeout is None:
            message = "AbsoluteTimeout must be specified when cookie lifetimeType is Permanent"
            yield Flaw(("absoluteTimeout",), message)


SESSIONS = Later("say loadBalancer.consistentHash in a DestinationRule of the backend's host")


class RouteSpec(Model):
    """What all routes have in common."""

    parent_refs: Annotated[tuple[ParentReference, ...], Field(max_length=32)] = ()
    use_default_gateways: Annotated[str | None, LATER] = None

    def flaws(self) -> Iterator[Flaw]:
        for (_, one), (second, other) in combinations(enumerate(self.parent_refs), 2):
            if not _is_same(one, other):
                continue
            if _sections(one) == _sections(other):
                yield Flaw(
                    ("parentRefs", second),
                    "sectionName or port must be unique when parentRefs includes 2 or more references to the "
                    "same parent",
                )
            elif [part is None for part in _sections(one)] != [part is None for part in _sections(other)]:
                yield Flaw(
                    ("parentRefs", second),
                    "sectionName or port must be specified when parentRefs includes 2 or more references to "
                    "the same parent",
                )


def _is_same(one: ParentReference, other: ParentReference) -> bool:
    return (one.group, one.kind, one.namespace, one.name) == (
        other.group,
        other.kind,
        other.namespace,
        other.name,
    )


def _sections(one: ParentReference) -> tuple[str | None, int | None]:
    return one.section_name, one.port


def _either(known: tuple[tuple[str, str], ...]) -> str:
    return "write " + " or ".join(f"{kind} of {group or 'the core group'}" for group, kind in known)
