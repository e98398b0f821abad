"""``gateway`` resources: what one ingress workload serves, merged from the Gateways that select it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ray_mesh import snapshot
from ray_mesh.compile.connection_routes import Kind, compile_connections
from ray_mesh.compile.exports import sees
from ray_mesh.compile.gateway_api.listeners import (
    Placed,
    http_hosts,
    listeners_at,
    secure_servers,
    tcp_routes,
)
from ray_mesh.compile.routes import Place, compile_routes, is_catch_all
from ray_mesh.compile.selection import selects
from ray_mesh.compile.server_tls import compile_tls
from ray_mesh.compile.virtual_hosts import by_specificity, virtual_hosts
from ray_mesh.compile.world import World, is_ingress
from ray_mesh.resources import Document, GatewaySpec, VirtualServiceSpec, WorkloadSpec
from ray_mesh.resources.gateway import Server, ServerTls, listener_kind
from ray_mesh.resources.hosts import gateway_host, pattern_covers


def compile_gateway(world: World, workload: Document) -> snapshot.Gateway | None:
    """All servers of an ingress workload; None for any other workload.

    A port of a Gateway that the workload does not expose is left out (admission refuses it).
    """
    if not is_ingress(workload):
        return None
    ports = sorted(int(port) for port in workload.read(WorkloadSpec).gateway_ports)
    gateways = gateways_for(world, workload)
    servers = [_server(world, workload, gateways, port) for port in ports]
    return snapshot.Gateway(
        workload.namespace, workload.name, tuple(server for server in servers if server is not None)
    )


def gateways_for(world: World, workload: Document) -> list[Document]:
    """The Gateways that select an ingress workload, oldest first."""
    return [
        one for one in world.oldest("kind", "Gateway") if selects(one.read(GatewaySpec).selector, workload)
    ]


def ingress_for(world: World, gateway: Document) -> list[Document]:
    """The ingress workloads, of any namespace, that a Gateway selects."""
    selector = gateway.read(GatewaySpec).selector
    return [workload for workload in world.find("ingress") if selects(selector, workload)]


def _server(
    world: World, workload: Document, gateways: list[Document], port: int
) -> snapshot.GatewayServer | None:
    """One listener; None when no Gateway asks for the port. What it speaks, the oldest one says."""
    asked = [
        (gateway, server)
        for gateway in gateways
        for server in gateway.read(GatewaySpec).servers
        if server.port.number == port
    ]
    placed = listeners_at(world, workload, port)
    spoken = _spoken(asked, placed)
    asked = [one for one in asked if listener_kind(one[1].port.kind) == spoken]
    placed = [one for one in placed if one.kind == spoken]
    if spoken == "TLS":
        secure = tuple(_secure(world, workload, gateway, server) for gateway, server in asked)
        return snapshot.GatewayServer(port, (), (*secure, *secure_servers(world, placed)))
    if spoken == "TCP":
        found = [
            route
            for gateway, server in asked
            for route in _connections(world, workload, gateway, server, "tcp")
        ]
        found += tcp_routes(world, placed)
        return snapshot.GatewayServer(port, (), is_tcp=True, tcp_routes=tuple(dict.fromkeys(found)))
    if spoken == "HTTP":
        return snapshot.GatewayServer(port, _http_hosts(world, workload, asked, placed))
    return None


def _spoken(asked: list[tuple[Document, Server]], placed: list[Placed]) -> str:
    """HTTP, TLS or TCP; empty when nobody asks for the port."""
    said = [(gateway, listener_kind(server.port.kind)) for gateway, server in asked]
    said += [(one.gateway, one.kind) for one in placed]
    oldest = min(said, key=lambda one: (one[0].admitted_at, one[0].key), default=None)
    return oldest[1] if oldest is not None else ""


def _http_hosts(
    world: World, workload: Document, asked: list[tuple[Document, Server]], placed: list[Placed]
) -> tuple[snapshot.VirtualHost, ...]:
    """HTTPRoutes of a host go first, then its VirtualServices, merged."""
    routes: dict[str, list[snapshot.Route]] = {}
    to_https: list[str] = []
    for gateway, server in asked:
        if server.tls is not None and server.tls.https_redirect:
            to_https += _hosts(gateway, server)
            continue
        for host, compiled in _routed_hosts(world, workload, gateway, server):
            routes.setdefault(host, []).extend(compiled)
    first = http_hosts(world, placed, placed)
    merged = {host: (*first.get(host, ()), *_merged(routes.get(host, ()))) for host in (*first, *routes)}
    redirected = tuple(sorted(dict.fromkeys(to_https), key=by_specificity))
    found = virtual_hosts(merged)
    return (*found, snapshot.VirtualHost(redirected, (), to_https=True)) if redirected else found


def _merged(routes: Iterable[snapshot.Route]) -> list[snapshot.Route]:
    """The same VirtualService may come through two Gateways; a merge puts catch-alls last."""
    return sorted(dict.fromkeys(routes), key=is_catch_all)


def _secure(world: World, workload: Document, gateway: Document, server: Server) -> snapshot.SecureServer:
    """One TLS server. HTTP that passes through is TLS like any other."""
    tls = server.tls or ServerTls()
    compiled = compile_tls(tls)
    hosts = tuple(_hosts(gateway, server))
    if server.port.kind == "https" and tls.mode != "PASSTHROUGH":
        return snapshot.SecureServer(hosts, compiled, _http_hosts(world, workload, [(gateway, server)], []))
    kind: Kind = "tls" if tls.mode == "PASSTHROUGH" else "tcp"
    routes = _connections(world, workload, gateway, server, kind)
    return snapshot.SecureServer(hosts, compiled, None, tuple(dict.fromkeys(routes)))


def _hosts(gateway: Document, server: Server) -> list[str]:
    """The host patterns of a server, in lower case and full."""
    return [gateway_host(text.rpartition("/")[2], gateway.namespace).lower() for text in server.hosts]


def _connections(
    world: World, workload: Document, gateway: Document, server: Server, kind: Kind
) -> Iterator[snapshot.ConnectionRoute]:
    name = f"{gateway.namespace}/{gateway.name}"
    place = Place(name, workload)
    documents = [one for one in _behind(world, workload, name) if served_hosts(server, gateway, one)]
    yield from compile_connections(world, documents, kind, place)


def _routed_hosts(
    world: World, workload: Document, gateway: Document, server: Server
) -> Iterator[tuple[str, tuple[snapshot.Route, ...]]]:
    name = f"{gateway.namespace}/{gateway.name}"
    place = Place(name, workload)
    for document in _behind(world, workload, name):
        if not document.read(VirtualServiceSpec).http:
            continue
        routes = compile_routes(world, [document], place)
        for host in served_hosts(server, gateway, document):
            yield host, routes


def _behind(world: World, workload: Document, name: str) -> list[Document]:
    """The VirtualServices behind a gateway that its ingress workload knows, oldest first."""
    config = world.config
    return [one for one in world.oldest("behind gateway", name) if sees(config, workload.namespace, one)]


def served_hosts(server: Server, gateway: Document, document: Document) -> list[str]:
    """The hosts that a server of a Gateway and a VirtualService have in common: of two patterns of
    which one covers the other, the narrower."""
    found: set[str] = set()
    for written in document.read(VirtualServiceSpec).hosts:
        host = gateway_host(written, document.namespace)
        for text in server.hosts:
            namespace, _, pattern = text.rpartition("/")
            pattern = gateway_host(pattern, gateway.namespace)
            if not _admits(namespace, gateway, document):
                continue
            if pattern_covers(pattern, host):
                found.add(host)
            elif pattern_covers(host, pattern):
                found.add(pattern)
    return sorted(found)


def _admits(namespace: str, gateway: Document, document: Document) -> bool:
    wanted = gateway.namespace if namespace == "." else namespace
    return wanted in ("", "*", document.namespace)
