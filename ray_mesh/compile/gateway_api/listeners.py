"""The listeners of the Gateway API's Gateways as parts of what an ingress workload serves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ray_mesh import snapshot
from ray_mesh.compile.gateway_api.attachment import ANY, api_gateways_for, routes_at
from ray_mesh.compile.gateway_api.connections import connection_route
from ray_mesh.compile.gateway_api.http_routes import Listening, Rank
from ray_mesh.compile.gateway_api.request_routes import ranked_routes
from ray_mesh.compile.gateway_api.terms import REQUEST_ROUTES
from ray_mesh.compile.server_tls import compile_tls
from ray_mesh.compile.virtual_hosts import virtual_hosts
from ray_mesh.resources import ApiGatewaySpec, Document
from ray_mesh.resources.gateway import ServerTls
from ray_mesh.resources.gateway_api.gateway import Listener, listener_kind
from ray_mesh.resources.hosts import pattern_covers, specificity

if TYPE_CHECKING:
    from ray_mesh.compile.world import World


@dataclass(frozen=True, slots=True)
class Placed:
    """A listener, and the Gateway that has it."""

    gateway: Document
    listener: Listener

    @property
    def host(self) -> str:
        """Its host, or the pattern for all."""
        return self.listener.hostname or ANY

    @property
    def kind(self) -> str:
        """What it shares a port with: HTTP, TLS or TCP."""
        return listener_kind(self.listener.speaks)


def listeners_at(world: World, workload: Document, port: int) -> list[Placed]:
    """The listeners of a port of an ingress workload, those of the oldest Gateway first."""
    return [
        Placed(gateway, listener)
        for gateway in api_gateways_for(world, workload)
        for listener in gateway.read(ApiGatewaySpec).listeners
        if listener.port == port
    ]


def http_hosts(
    world: World, placed: list[Placed], beside: list[Placed]
) -> dict[str, tuple[snapshot.Route, ...]]:
    """The hosts of HTTP listeners and their routes, in order of precedence.

    A host belongs to the listener that says it most closely of all those ``beside`` it on the port, and to
    no other: what attaches elsewhere has no say over it.
    """
    found: dict[str, list[tuple[Rank, snapshot.Route]]] = {}
    for one in placed:
        if one.host != ANY:
            found.setdefault(one.host, [])
        scheme = "https" if one.listener.speaks == "HTTPS" else "http"
        listening = Listening(scheme, one.listener.port)
        for attached in routes_at(world, one.gateway, one.listener, *REQUEST_ROUTES):
            routes = list(ranked_routes(world, attached.route, listening))
            for host, written in attached.hosts:
                if not _is_taken(host, one, beside):
                    closest = [(_closest(written, rank), each) for rank, each in routes]
                    found.setdefault(host, []).extend(closest)
    return {host: tuple(dict.fromkeys(_in_order(routes))) for host, routes in found.items()}


def _closest(written: str, rank: Rank) -> Rank:
    """Routes that say the host more closely go first."""
    is_exact, length = specificity(written)
    return (not is_exact, -length, *rank)


def _in_order(routes: list[tuple[Rank, snapshot.Route]]) -> Iterator[snapshot.Route]:
    return (route for _, route in sorted(routes, key=lambda pair: pair[0]))


def _is_taken(host: str, placed: Placed, beside: list[Placed]) -> bool:
    return any(
        pattern_covers(other.host, host) and specificity(other.host) > specificity(placed.host)
        for other in beside
    )


def secure_servers(world: World, placed: list[Placed]) -> Iterator[snapshot.SecureServer]:
    """The TLS servers of a port; the listeners of all Gateways for one host are one server."""
    by_host: dict[str, list[Placed]] = {}
    for one in placed:
        same = by_host.setdefault(one.host, [])
        if not same or is_like(one.listener, same[0].listener):
            same.append(one)
    for host, same in by_host.items():
        tls = server_tls(same[0].listener)
        if same[0].listener.speaks == "HTTPS":
            hosts = http_hosts(world, same, placed)
            yield snapshot.SecureServer((host,), tls, virtual_hosts(hosts))
        else:
            yield snapshot.SecureServer((host,), tls, None, tuple(_tls_routes(world, same)))


def is_like(one: Listener, other: Listener) -> bool:
    """Whether two listeners for one host of a port can be one server."""
    return (one.speaks, one.tls) == (other.speaks, other.tls)


def server_tls(listener: Listener) -> snapshot.ServerTls:
    """How a listener ends TLS, or that it does not."""
    return compile_tls(listener.tls.server if listener.tls is not None else ServerTls())


def _tls_routes(world: World, placed: list[Placed]) -> Iterator[snapshot.ConnectionRoute]:
    """By server name, the closest first; a TCPRoute takes what no TLSRoute does."""
    named = []
    for one in placed:
        for attached in routes_at(world, one.gateway, one.listener, "TLSRoute"):
            for host, written in attached.hosts:
                match = snapshot.ConnectionMatch(sni_hosts=(host,))
                route = connection_route(world, attached.route, (match,))
                rank = _closest(host, _closest(written, (attached.route.admitted_at, attached.route.key)))
                named.append((rank, route))
    yield from (route for _, route in sorted(named, key=lambda pair: pair[0]))
    yield from tcp_routes(world, placed)


def tcp_routes(world: World, placed: list[Placed]) -> Iterator[snapshot.ConnectionRoute]:
    """The TCPRoutes of listeners; the oldest one takes every connection."""
    for one in placed:
        for attached in routes_at(world, one.gateway, one.listener, "TCPRoute"):
            yield connection_route(world, attached.route)
