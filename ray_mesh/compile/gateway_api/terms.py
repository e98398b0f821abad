"""What documents of the Gateway API can be found by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from ray_mesh.resources import (
    ApiGatewaySpec,
    Document,
    GrpcRouteSpec,
    HttpRouteSpec,
    TcpRouteSpec,
    TlsRouteSpec,
)
from ray_mesh.resources.gateway_api.connection_routes import ConnectionRule
from ray_mesh.resources.gateway_api.filters import GrpcFilter, HttpFilter
from ray_mesh.resources.gateway_api.grpc_route import GrpcRouteRule
from ray_mesh.resources.gateway_api.http_route import HttpRouteRule
from ray_mesh.resources.gateway_api.names import GROUP
from ray_mesh.resources.gateway_api.references import BackendObjectReference, ParentReference
from ray_mesh.resources.hosts import service_host
from ray_mesh.resources.kinds import key_for
from ray_mesh.resources.source import Path

API_GATEWAY = f"Gateway.{GROUP}"
RouteSpec: TypeAlias = GrpcRouteSpec | HttpRouteSpec | TcpRouteSpec | TlsRouteSpec
REQUEST_ROUTES = ("GRPCRoute", "HTTPRoute")
"""The kinds of routes for requests; for the same requests the first goes before the second."""


def terms(document: Document) -> Iterator[tuple[str, ...]]:
    """The terms of a Gateway or a route; nothing for any other document."""
    match document.spec:
        case ApiGatewaySpec(listeners=listeners):
            if any(one.allowed_routes.namespaces.from_ == "Selector" for one in listeners):
                yield ("selects namespaces",)
        case GrpcRouteSpec() | HttpRouteSpec() | TcpRouteSpec() | TlsRouteSpec():
            for parent in document.spec.parent_refs:
                yield ("route of", parent_key(document, parent))
            for _, backend in backends_of(document):
                yield ("sends to", backend_host(document, backend))
                if backend.namespace not in (None, document.namespace):
                    yield ("refers into", str(backend.namespace))


def parent_key(route: Document, parent: ParentReference) -> str:
    """The key of the Gateway, Service or ServiceEntry that a route names."""
    kind = API_GATEWAY if parent.is_gateway else parent.kind
    return key_for(kind, parent.namespace or route.namespace, parent.name)


def backends_of(route: Document) -> Iterator[tuple[Path, BackendObjectReference]]:
    """Everything that a route sends to, mirrors among it, and where that is written."""
    spec = route.spec
    assert isinstance(spec, RouteSpec)
    rules: tuple[HttpRouteRule | GrpcRouteRule | ConnectionRule, ...] = spec.rules
    for index, rule in enumerate(rules):
        path: Path = ("spec", "rules", index)
        for number, backend in enumerate(rule.backend_refs):
            yield (*path, "backendRefs", number), backend
        filters: tuple[HttpFilter | GrpcFilter, ...] = ()
        if not isinstance(rule, ConnectionRule):
            filters = rule.filters
        for number, one in enumerate(filters):
            if one.request_mirror is not None:
                below: Path = (*path, "filters", number, "requestMirror", "backendRef")
                yield below, one.request_mirror.backend_ref


def backend_host(route: Document, backend: BackendObjectReference) -> str:
    """The full host of a backend."""
    if backend.kind == "Hostname":
        return backend.name.lower()
    return service_host(backend.namespace or route.namespace, backend.name)
