"""The Gateway API's Gateway: listeners, and which routes may attach to them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from ray_mesh.resources.gateway_api.names import (
    GROUP,
    GroupName,
    Hostname,
    KindName,
    ObjectName,
    QualifiedName,
    SectionName,
    is_address,
    is_hostname,
)
from ray_mesh.resources.gateway_api.tls import FILES, GatewayTls, ListenerTls
from ray_mesh.resources.problems import find_flaws
from ray_mesh.resources.schema import (
    LATER,
    Flaw,
    LabelText,
    Later,
    Model,
    NonEmpty,
    PortNumber,
)

CLASSES = ("ray-mesh", "istio")
"""The classes that are there. ``istio`` is for documents that are written for it."""
KINDS_BY_PROTOCOL = {
    "HTTP": ("HTTPRoute", "GRPCRoute"),
    "HTTPS": ("HTTPRoute", "GRPCRoute"),
    "TLS": ("TLSRoute", "TCPRoute"),
    "TCP": ("TCPRoute",),
    "UDP": ("UDPRoute",),
}
_NO_SETS = Later("there are no ListenerSets: write the listeners here")
_ATTACHED = Later("ingress workloads have the addresses that they are attached with")
_LABELLED = Later("label the ingress workload when it attaches")
_ADDRESS_TYPE = (
    r"^(Hostname|IPAddress|NamedAddress|"
    r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/[A-Za-z0-9/\-._~%!$&'()*+,;=:]+)$"
)
_PROTOCOL = re.compile(
    r"[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?|[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/[A-Za-z0-9]+"
)


AnnotationText = Annotated[str, Field(max_length=4096)]


class Requirement(Model):
    """One expression of a selector of labels."""

    key: NonEmpty
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[LabelText, ...] = ()

    def flaws(self) -> Iterator[Flaw]:
        if self.operator in ("In", "NotIn") and not self.values:
            yield Flaw(("values",), f"{self.operator} needs values")
        elif self.operator in ("Exists", "DoesNotExist") and self.values:
            yield Flaw(("values",), f"{self.operator} has no values")

    def holds(self, labels: dict[str, str]) -> bool:
        """Whether labels fulfil it, as Kubernetes says."""
        if self.operator == "Exists":
            return self.key in labels
        if self.operator == "DoesNotExist":
            return self.key not in labels
        return (labels.get(self.key) in self.values) == (self.operator == "In")


class LabelSelector(Model):
    """Kubernetes' LabelSelector: everything that it says has to hold."""

    match_labels: dict[NonEmpty, LabelText] = {}
    match_expressions: tuple[Requirement, ...] = ()

    def selects(self, labels: dict[str, str]) -> bool:
        """Whether it picks what has these labels."""
        return self.match_labels.items() <= labels.items() and all(
            one.holds(labels) for one in self.match_expressions
        )


class RouteNamespaces(Model):
    """From which namespaces routes may attach."""

    from_: Annotated[Literal["All", "Selector", "Same"], Field(alias="from")] = "Same"
    selector: LabelSelector | None = None

    def flaws(self) -> Iterator[Flaw]:
        if self.from_ == "Selector" and self.selector is None:
            yield Flaw(("selector",), "is missing: from: Selector needs one")


class RouteGroupKind(Model):
    """A kind of routes."""

    group: GroupName = GROUP
    kind: KindName


class AllowedRoutes(Model):
    """Which routes may attach to a listener."""

    namespaces: RouteNamespaces = RouteNamespaces()
    kinds: Annotated[tuple[RouteGroupKind, ...], Field(max_length=8)] = ()


class Listener(Model):
    """A port, what is spoken there, and for which host."""

    name: SectionName
    hostname: Hostname | None = None
    port: PortNumber
    protocol: Annotated[str, Field(min_length=1, max_length=255)]
    tls: ListenerTls | None = None
    allowed_routes: AllowedRoutes = AllowedRoutes()

    @property
    def speaks(self) -> str:
        """Its protocol in upper case: HTTP, HTTPS, TLS or TCP, once it is known to be honoured."""
        return self.protocol.upper()

    @property
    def passes_through(self) -> bool:
        """Whether TLS is not ended here."""
        return self.tls is not None and self.tls.mode == "Passthrough"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of routes that may attach."""
        fitting = KINDS_BY_PROTOCOL.get(self.speaks, ())
        if self.speaks == "TLS" and self.passes_through:
            fitting = ("TLSRoute",)
        named = [one.kind for one in self.allowed_routes.kinds if one.group == GROUP]
        return tuple(kind for kind in fitting if kind in named) if self.allowed_routes.kinds else fitting

    def flaws(self) -> Iterator[Flaw]:
        if not _PROTOCOL.fullmatch(self.protocol):
            yield Flaw(("protocol",), f"{self.protocol!r} is not a protocol")
        elif self.speaks not in ("HTTP", "HTTPS", "TLS", "TCP"):
            yield Flaw(
                ("protocol",), f"{self.protocol}: listeners speak HTTP, HTTPS, TLS and TCP", later=True
            )
        if self.speaks in ("HTTP", "TCP", "UDP") and self.tls is not None:
            yield Flaw(("tls",), "tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']")
        if self.speaks in ("TCP", "UDP") and self.hostname is not None:
            yield Flaw(("hostname",), "hostname must not be specified for protocols ['TCP', 'UDP']")
        if self.speaks == "HTTPS" and self.passes_through:
            yield Flaw(("tls", "mode"), "tls mode must be Terminate for protocol HTTPS")
        elif self.speaks == "HTTPS" and self.tls is None:
            yield Flaw(("tls",), "it is missing, and HTTPS needs a certificate", later=True)
        if self.speaks == "TLS" and (self.tls is None or "mode" not in self.tls.model_fields_set):
            yield Flaw(("tls",), "tls mode must be set for protocol TLS")
        yield from self._kind_flaws()

    def _kind_flaws(self) -> Iterator[Flaw]:
        fitting = KINDS_BY_PROTOCOL.get(self.speaks, ())
        for index, one in enumerate(self.allowed_routes.kinds):
            if fitting and (one.group != GROUP or one.kind not in fitting):
                message = f"{one.kind} at a listener of {self.speaks}: it takes {' and '.join(fitting)}"
                yield Flaw(("allowedRoutes", "kinds", index), message, later=True)


class GatewayAddress(Model):
    """An address that is asked for."""

    type: Annotated[str, Field(min_length=1, max_length=253, pattern=_ADDRESS_TYPE)] = "IPAddress"
    value: Annotated[str, Field(max_length=253)] = ""

    def flaws(self) -> Iterator[Flaw]:
        if self.value and self.type == "IPAddress" and not is_address(self.value):
            yield Flaw(("value",), f"{self.value!r} is not an IP address")
        elif self.value and self.type == "Hostname" and not is_hostname(self.value):
            yield Flaw(("value",), f"{self.value!r} is not a host in lower case")


class ListenerNamespaces(Model):
    """From which namespaces ListenerSets may attach."""

    from_: Annotated[Literal["All", "Selector", "Same", "None"], Field(alias="from")] = "None"
    selector: LabelSelector | None = None


class AllowedListeners(Model):
    """Which ListenerSets may attach."""

    namespaces: ListenerNamespaces = ListenerNamespaces()


class ParametersReference(Model):
    """An object with parameters of a Gateway."""

    group: GroupName
    kind: KindName
    name: ObjectName


class Infrastructure(Model):
    """``labels`` are those of the ingress workloads that serve the Gateway."""

    labels: Annotated[dict[QualifiedName, LabelText], Field(max_length=8)] = {}
    annotations: Annotated[dict[QualifiedName, AnnotationText], Field(max_length=16), _LABELLED] = {}
    parameters_ref: Annotated[ParametersReference | None, LATER] = None


class ApiGatewaySpec(Model):
    """Where traffic enters: ingress workloads listen for ``listeners``."""

    gateway_class_name: ObjectName
    listeners: Annotated[tuple[Listener, ...], Field(min_length=1, max_length=64)]
    addresses: Annotated[tuple[GatewayAddress, ...], Field(max_length=16), _ATTACHED] = ()
    infrastructure: Infrastructure = Infrastructure()
    allowed_listeners: Annotated[AllowedListeners | None, _NO_SETS] = None
    tls: Annotated[GatewayTls | None, FILES] = None
    default_scope: Annotated[str | None, LATER] = None

    def flaws(self) -> Iterator[Flaw]:
        if self.gateway_class_name not in CLASSES:
            message = f"{self.gateway_class_name}: write {' or '.join(CLASSES)}, which need no GatewayClass"
            yield Flaw(("gatewayClassName",), message, later=True)
        yield from self._address_flaws()
        yield from find_flaws(self.tls, ("tls",)) if self.tls is not None else ()
        yield from self._listener_flaws()

    def _address_flaws(self) -> Iterator[Flaw]:
        for index, one in enumerate(self.addresses):
            yield from find_flaws(one, ("addresses", index))
            is_named = one.type in ("IPAddress", "Hostname") and one.value
            if is_named and one in self.addresses[:index]:
                yield Flaw(("addresses", index), f"{one.type} values must be unique")

    def _listener_flaws(self) -> Iterator[Flaw]:
        names: set[str] = set()
        places: set[tuple[int, str, str | None]] = set()
        spoken: dict[int, str] = {}
        for index, one in enumerate(self.listeners):
            if one.name in names:
                yield Flaw(("listeners", index, "name"), "Listener name must be unique within the Gateway")
            names.add(one.name)
            place = (one.port, one.speaks, one.hostname)
            if place in places:
                message = "Combination of port, protocol and hostname must be unique for each listener"
                yield Flaw(("listeners", index), message)
            places.add(place)
            kind = listener_kind(one.speaks)
            if spoken.setdefault(one.port, kind) != kind:
                message = f"port {one.port} is {spoken[one.port]} in a listener above"
                yield Flaw(("listeners", index, "protocol"), message, later=True)


def listener_kind(protocol: str) -> str:
    """What has to be the same for all listeners of a port: HTTPS and TLS are told apart by server name."""
    return "TLS" if protocol in ("HTTPS", "TLS") else protocol
