"""Whether compiled routes can be used here; admission has judged them, perhaps that of another version."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ray_mesh.patterns import compile_pattern, compile_template
from ray_mesh.snapshot import Gateway, Resource, Route, Service, StringMatch


def unusable_route(resource: Resource) -> str:
    """The first route with an expression that does not compile, and why; empty when there is none."""
    for route in _routes(resource):
        try:
            for match in _texts(route):
                if match is not None and match.kind == "regex":
                    compile_pattern(match.value)
            if route.rewrite is not None and route.rewrite.pattern:
                groups = compile_pattern(route.rewrite.pattern).groups
                compile_template(route.rewrite.template, groups)
        except ValueError as error:
            return f"route {route.name}: {error}"
    return ""


def _routes(resource: Resource) -> Iterable[Route]:
    match resource:
        case Service(routes=routes, routings=routings):
            return (*routes, *(route for routing in routings for route in routing.routes))
        case Gateway(servers=servers):
            return (route for one in servers for host in one.virtual_hosts for route in host.routes)
    return ()


def _texts(route: Route) -> Iterator[StringMatch | None]:
    for match in route.matches:
        yield from (match.uri, match.scheme, match.method, match.authority)
        for named in (*match.headers, *match.without_headers, *match.query_params):
            yield named.match
    if route.cors is not None:
        yield from route.cors.origins
