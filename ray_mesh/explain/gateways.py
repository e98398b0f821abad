"""What comes to a gateway port from outside, up to its route."""

from __future__ import annotations

from collections.abc import Callable

from ray_mesh.compile.gateways import compile_gateway
from ray_mesh.compile.routes import Place
from ray_mesh.explain.answer import NOWHERE, Note, Step, Verdict
from ray_mesh.explain.asked import Asked
from ray_mesh.explain.callers import Source
from ray_mesh.explain.case import Case
from ray_mesh.explain.connections import follow_connection
from ray_mesh.explain.guarding import pass_guards, refusal
from ray_mesh.explain.http import follow
from ray_mesh.explain.routing import choose_route, not_in_force
from ray_mesh.explain.servers import istio_gateway, names, server_ground, why_no_host
from ray_mesh.explain.shares import authorization_input
from ray_mesh.explain.way import Way
from ray_mesh.proxy import replies
from ray_mesh.proxy.doors import Door, SecureEntry
from ray_mesh.proxy.hosts import split_authority
from ray_mesh.proxy.match import Scope
from ray_mesh.proxy.replies import Reply
from ray_mesh.proxy.virtual_hosts import VirtualHosts
from ray_mesh.security.authorization import AuthorizationInput
from ray_mesh.snapshot import ConnectionRoute, GatewayServer, VirtualHost


def from_outside(case: Case, source: Source, asked: Asked, port: int, sni: str, scheme: str) -> Way:
    """A request or connection on a port of an ingress workload."""
    way = Way()
    gateway = compile_gateway(case.world, source.document)
    server = next((one for one in gateway.servers if one.port == port), None) if gateway is not None else None
    exposed = dict(source.workload.gateway_ports)
    if server is None and port not in exposed:
        says = (
            f"{source.name} has no gateway port {port}; its ports: {', '.join(map(str, exposed)) or 'none'}"
        )
        return _no_listener(case, source, way, says)
    host = asked.host.decode("latin-1")
    name = (split_authority(asked.host) or (host, port))[0]
    says = f"gateway port {port} of ingress workload {source.name}"
    way.add(Step("listener", says, *server_ground(case, source, port, sni or name)))
    if server is None:
        return _refuse(way, "virtual host", replies.no_virtual_host(name, port))
    if server.is_tcp:
        return _connection(case, source, way, server.tcp_routes, port, "")
    if not server.secure:
        if scheme == "https":
            says = f"gateway port {port} is plain HTTP, a TLS handshake is no request"
            return _refuse(way, "tls", replies.bad_request(400, says))
        return _request(case, source, way, server.virtual_hosts, asked, port)
    if scheme != "https":
        return _refuse(way, "tls", replies.bad_hello("a plain request came to it"))
    return _secure(case, source, way, server, asked, sni or name)


def _secure(case: Case, source: Source, way: Way, server: GatewayServer, asked: Asked, sni: str) -> Way:
    door = Door(server.port)
    door.entries = tuple(SecureEntry(one, None) for one in server.secure)
    entry = door.choose(sni)
    if entry is None:
        reply = Reply(0, "", "unrecognized_name", f"no TLS server of port {server.port} is for {sni!r}")
        return _refuse(way, "tls", reply)
    mode = entry.server.tls.mode
    proof = {
        "MUTUAL": ", the caller needs a certificate of its authorities",
        "ISTIO_MUTUAL": ", the caller needs a certificate of the mesh, whose identity is not known here",
    }.get(mode, "")
    way.add(Step("tls", f"server name {sni} is of hosts {', '.join(entry.server.hosts)}: {mode}{proof}"))
    if entry.server.virtual_hosts is None:
        return _connection(case, source, way, entry.server.routes, server.port, sni)

    def is_owner(name: str) -> bool | None:
        chosen = door.choose(name)
        return None if chosen is None else chosen is entry

    return _request(case, source, way, entry.server.virtual_hosts, asked, server.port, is_owner)


def _request(
    case: Case,
    source: Source,
    way: Way,
    hosts: tuple[VirtualHost, ...],
    asked: Asked,
    port: int,
    is_owner: Callable[[str], bool | None] = lambda name: True,
) -> Way:
    """Policies of the gateway first, then the virtual host, as the proxy has it. ``is_owner`` says whether a
    host is of the TLS server that the connection came to, None when it is of none."""
    if asked.method == b"CONNECT":
        return _refuse(way, "listener", replies.NO_TUNNELS)
    passage = pass_guards(case, source.document, authorization_input("", "", port, asked))
    for step in passage.steps:
        way.add(step)
    if passage.verdict is not None:
        return way.end(passage.verdict)
    authority = split_authority(asked.host)
    if authority is None:
        return _refuse(way, "virtual host", replies.bad_request(400, "the Host field is not a host and port"))
    found = VirtualHosts(hosts).find(authority[0])
    place = Place(istio_gateway(case, source, authority[0], port), source.document)
    is_ours = is_owner(authority[0])
    if is_ours is False or (is_ours is None and found is not None):
        return _refuse(way, "virtual host", replies.misdirected(authority[0]))
    if found is None:
        notes = tuple(why_no_host(case, source, authority[0], port))
        return _refuse(way, "virtual host", replies.no_virtual_host(authority[0], port), notes)
    if found.to_https:
        return _to_https(way, authority[0], asked)
    way.add(Step("virtual host", f"{authority[0]} is of {', '.join(found.hosts)}"))
    labels = frozenset(source.workload.labels)
    scope = Scope(source.workload.namespace, labels, port, is_gateway=True)
    behind = [one for one in case.world.oldest("behind gateway", place.gateway) if names(one, authority[0])]
    further = not_in_force(case, authority[0], behind, place, source.workload.namespace)
    choice = choose_route(case, found.routes, scope, asked, further)
    return follow(case, source, way, choice, scope, asked)


def _connection(
    case: Case, source: Source, way: Way, routes: tuple[ConnectionRoute, ...], port: int, sni: str
) -> Way:
    labels = frozenset(source.workload.labels)
    scope = Scope(source.workload.namespace, labels, port, is_gateway=True)

    def guards() -> Way | None:
        asked = AuthorizationInput("", "", "", port, "", "")
        passage = pass_guards(case, source.document, asked, is_connection=True)
        for step in passage.steps:
            way.add(step)
        return way.end(passage.verdict) if passage.verdict is not None else None

    return follow_connection(case, source, way, routes, scope, sni, guards)


def _refuse(way: Way, stage: str, reply: Reply, notes: tuple[Note, ...] = ()) -> Way:
    way.add(Step(stage, reply.message, NOWHERE, notes, refuses=True))
    return way.end(refusal(reply))


def _to_https(way: Way, host: str, asked: Asked) -> Way:
    reply = replies.to_https(host, (asked.path + asked.query).decode("latin-1"))
    says = f"{reply.status}, {reply.message} ({reply.fields[0]})"
    way.add(Step("answer", says))
    return way.end(Verdict("answered", says, reply.status, "", reply.reason))


def _no_listener(case: Case, source: Source, way: Way, says: str) -> Way:
    ground = case.places.at(source.document, "spec", "gatewayPorts")
    way.add(Step("listener", says, ground, refuses=True))
    return way.end(refusal(Reply(0, "", "no_listener", f"{says}: the connection is refused"), ground))
