"""VirtualServices to routes, for the mesh or for one ingress workload."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ray_mesh import snapshot
from ray_mesh.compile.delegation import rules_of
from ray_mesh.compile.selection import selects
from ray_mesh.compile.ways import by_matched_path, header_changes, text_match, ways
from ray_mesh.compile.world import World
from ray_mesh.grpc_status import GrpcStatus
from ray_mesh.resources import Document
from ray_mesh.resources.connection_routes import TcpMatch, TlsMatch
from ray_mesh.resources.header_operations import Headers
from ray_mesh.resources.hosts import MESH_GATEWAY, resolve_gateway
from ray_mesh.resources.retries import Retries, split_words
from ray_mesh.resources.route_ways import StringMatch
from ray_mesh.resources.schema import seconds
from ray_mesh.resources.virtual_service import Fault, HttpMatch, HttpRoute, HttpRouteDestination


@dataclass(frozen=True, slots=True)
class Place:
    """Where routes are evaluated. At a gateway the caller is the ingress workload itself, so what
    depends on the caller is decided when compiling."""

    gateway: str = MESH_GATEWAY
    ingress: Document | None = None


MESH = Place()
_NO_HEADERS = Headers()


def compile_routes(
    world: World, documents: Iterable[Document], place: Place = MESH
) -> tuple[snapshot.Route, ...]:
    """The routes of VirtualServices for one host, which are merged when there are several.

    Their rules are kept in order, and rules that match everything go last, as Istio merges at gateways.
    What stands behind such a rule in its own document is never reached and left out. The owner of a route is
    the place of its document among these.
    """
    parts = [_reachable(_routes(world, document, place)) for document in documents]
    routes = [
        replace(route, owner=owner) if owner else route for owner, part in enumerate(parts) for route in part
    ]
    if len(parts) > 1:
        routes.sort(key=is_catch_all)
    return tuple(routes)


def _reachable(routes: Iterable[snapshot.Route]) -> list[snapshot.Route]:
    kept: list[snapshot.Route] = []
    for route in routes:
        kept.append(route)
        if is_catch_all(route):
            break
    return kept


def is_catch_all(route: snapshot.Route) -> bool:
    """Whether a route takes every request that reaches it."""
    return not route.matches or any(match in _ALL for match in route.matches)


_ALL = (
    snapshot.RequestMatch(),
    snapshot.RequestMatch(uri=snapshot.StringMatch("prefix", "/")),
    snapshot.RequestMatch(uri=snapshot.StringMatch("prefix", "/"), ignore_uri_case=True),
)


def _routes(world: World, document: Document, place: Place) -> Iterator[snapshot.Route]:
    for owned in rules_of(world, document):
        owner, index, rule = owned.document, owned.index, owned.rule
        matches = [match for match in rule.match if applies(match, owner, place)]
        if rule.match and not matches:
            continue
        route = snapshot.Route(
            name=rule.name or f"{owner.namespace}/{owner.name}/{index}",
            origin=f"{owner.title} spec.http[{index}]",
            matches=tuple(_match(match, place) for match in matches),
            destinations=_destinations(world, owner, rule),
            fault=_fault(rule.fault) if rule.fault else None,
            timeout_s=seconds(rule.timeout) if rule.timeout else 0.0,
            mirrors=_mirrors(world, owner, rule),
            retries=_retries(rule.retries) if rule.retries else None,
            **ways(rule),
        )
        for each in _by_match_name(route, matches):
            yield from by_matched_path(each)


def _by_match_name(route: snapshot.Route, matches: list[HttpMatch]) -> Iterator[snapshot.Route]:
    """One route, or one per match when matches have names, which Istio appends to the route's."""
    if not any(match.name for match in matches):
        yield route
        return
    for written, compiled in zip(matches, route.matches, strict=True):
        name = f"{route.name}.{written.name}" if written.name else route.name
        yield replace(route, name=name, matches=(compiled,))


def applies(match: HttpMatch | TlsMatch | TcpMatch, document: Document, place: Place) -> bool:
    """Whether a match of a VirtualService can hold at a place; what a request decides is not asked."""
    if match.gateways:
        names = [resolve_gateway(name, document.namespace) for name in match.gateways]
        if place.gateway not in names:
            return False
    if place.ingress is None:
        return True
    in_namespace = match.source_namespace in ("", place.ingress.namespace)
    return in_namespace and selects(match.source_labels, place.ingress)


def _match(match: HttpMatch, place: Place) -> snapshot.RequestMatch:
    in_mesh = place.ingress is None
    return snapshot.RequestMatch(
        uri=text_match(match.uri),
        scheme=text_match(match.scheme),
        method=text_match(match.method),
        authority=text_match(match.authority),
        headers=_headers(match.headers),
        without_headers=_headers(match.without_headers),
        query_params=_named(match.query_params),
        ignore_uri_case=match.ignore_uri_case,
        port=match.port or 0,
        source_labels=tuple(sorted(match.source_labels.items())) if in_mesh else (),
        source_namespace=match.source_namespace if in_mesh else "",
    )


def _named(matches: Mapping[str, StringMatch]) -> tuple[snapshot.NamedMatch, ...]:
    named = [(name, text_match(match)) for name, match in sorted(matches.items())]
    return tuple(snapshot.NamedMatch(name, match) for name, match in named if match)


def _headers(matches: Mapping[str, StringMatch]) -> tuple[snapshot.NamedMatch, ...]:
    """As :func:`_named`; an empty value also asks for presence only, as in Istio."""
    present = snapshot.StringMatch("present")
    return tuple(
        snapshot.NamedMatch(named.name.lower(), named.match if named.match.value else present)
        for named in _named(matches)
    )


def _destinations(world: World, document: Document, rule: HttpRoute) -> tuple[snapshot.Destination, ...]:
    """The shares of a rule. One destination takes all, whatever its weight; of several, those
    without weight take nothing."""
    if len(rule.route) == 1:
        return (_destination(world, document, rule.route[0], 100),)
    return tuple(_destination(world, document, share, share.weight) for share in rule.route if share.weight)


def _mirrors(world: World, document: Document, rule: HttpRoute) -> tuple[snapshot.Mirror, ...]:
    """Without a percentage all requests are mirrored."""
    found = []
    for mirror in rule.copies:
        percent = mirror.percentage.value if mirror.percentage else 100.0
        share = HttpRouteDestination(destination=mirror.destination)
        if percent > 0:
            found.append(snapshot.Mirror(_destination(world, document, share, 100), percent))
    return tuple(found)


def _destination(
    world: World, document: Document, share: HttpRouteDestination, weight: int
) -> snapshot.Destination:
    host = world.resolve(share.destination.host, document.namespace)
    port = share.destination.port.number if share.destination.port else only_port(world, host)
    headers = share.headers or _NO_HEADERS
    return snapshot.Destination(
        host,
        share.destination.subset,
        port,
        weight,
        request_headers=header_changes(headers.request),
        response_headers=header_changes(headers.response),
        authority=headers.authority,
    )


def only_port(world: World, host: str) -> int:
    """The port of a service that has one, else 0."""
    callee = world.callee(host)
    ports = callee.ports if callee else ()
    return ports[0].number if len(ports) == 1 else 0


def _retries(retries: Retries) -> snapshot.Retries:
    """``retryOn`` may name statuses besides words; without attempts there are none."""
    words = split_words(retries.retry_on or "")
    return snapshot.Retries(
        attempts=retries.attempts or 0,
        on=tuple(sorted({word for word in words if not word.isdigit()})),
        statuses=tuple(sorted({int(word) for word in words if word.isdigit()})),
        per_try_timeout_s=seconds(retries.per_try_timeout) if retries.per_try_timeout else 0.0,
        backoff_s=seconds(retries.backoff) if retries.backoff else 0.0,
        remote_localities=bool(retries.retry_remote_localities),
        ignore_previous_hosts=retries.retry_ignore_previous_hosts is not False,
    )


def _fault(fault: Fault) -> snapshot.Fault:
    """Without a percentage nothing is injected, as in Istio."""
    delay, abort = fault.delay, fault.abort
    delay_percent = float(delay.percent or 0) if delay else 0.0
    if delay and delay.percentage:
        delay_percent = delay.percentage.value
    return snapshot.Fault(
        delay_s=seconds(delay.fixed_delay) if delay and delay.fixed_delay else 0.0,
        delay_percent=delay_percent,
        abort_status=abort.http_status or 0 if abort else 0,
        abort_percent=abort.percentage.value if abort and abort.percentage else 0.0,
        abort_grpc_status=int(GrpcStatus[abort.grpc_status]) if abort and abort.grpc_status else None,
    )
