"""Why a match does not hold: its conditions one by one, each asked of the proxy's own matching."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ray_mesh.explain.asked import Asked
from ray_mesh.proxy import tcp_routes
from ray_mesh.proxy.match import Alternative, Scope, alternatives
from ray_mesh.proxy.path import query_parameters
from ray_mesh.snapshot import ConnectionMatch, NamedMatch, RequestMatch, StringMatch


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a match, as a match of its own; ``field`` is the path to it in the match."""

    field: tuple[str, ...]
    match: RequestMatch


def fits(ways: list[Alternative], asked: Asked) -> bool:
    """Whether a request goes one of these ways."""
    return any(
        (way.exact is None or way.exact == asked.path)
        and asked.path.startswith(way.prefix)
        and (way.test is None or way.test(asked))
        for way in ways
    )


def holds(match: RequestMatch, scope: Scope, asked: Asked) -> bool:
    """Whether a match holds for a request."""
    return fits(alternatives((match,), scope), asked)


def conditions(match: RequestMatch) -> Iterator[Condition]:
    """All that a match asks for, in the order in which it is told."""
    if match.gateways:
        yield Condition(("gateways",), RequestMatch(gateways=match.gateways))
    if match.port:
        yield Condition(("port",), RequestMatch(port=match.port))
    if match.source_namespace:
        yield Condition(("sourceNamespace",), RequestMatch(source_namespace=match.source_namespace))
    for label in match.source_labels:
        yield Condition(("sourceLabels", label[0]), RequestMatch(source_labels=(label,)))
    if match.uri is not None:
        yield Condition(("uri",), RequestMatch(uri=match.uri, ignore_uri_case=match.ignore_uri_case))
    if match.scheme is not None:
        yield Condition(("scheme",), RequestMatch(scheme=match.scheme))
    if match.method is not None:
        yield Condition(("method",), RequestMatch(method=match.method))
    if match.authority is not None:
        yield Condition(("authority",), RequestMatch(authority=match.authority))
    for named in match.headers:
        yield Condition(("headers", named.name), RequestMatch(headers=(named,)))
    for named in match.without_headers:
        yield Condition(("withoutHeaders", named.name), RequestMatch(without_headers=(named,)))
    for named in match.query_params:
        yield Condition(("queryParams", named.name), RequestMatch(query_params=(named,)))


def first_failure(match: RequestMatch, scope: Scope, asked: Asked) -> Condition | None:
    """The first condition that does not hold; None when the match holds."""
    return next((one for one in conditions(match) if not holds(one.match, scope, asked)), None)


def why_not(condition: Condition, scope: Scope, asked: Asked) -> str:
    """What is there instead of what a condition asks for."""
    kind, one = condition.field[0], condition.match
    match kind:
        case "gateways":
            return f"only for gateways {', '.join(one.gateways)}"
        case "port":
            return f"port is {scope.port}, not {one.port}"
        case "sourceNamespace":
            return f"sourceNamespace is {scope.namespace}, not {one.source_namespace}"
        case "sourceLabels":
            name, wanted = one.source_labels[0]
            return f"sourceLabels: {_label(scope, name)}, not {name}={wanted}"
        case "headers":
            return f"header {_differs(one.headers[0], asked.values(one.headers[0].name.encode()))}"
        case "withoutHeaders":
            return f"withoutHeaders: {_unwanted(one.without_headers[0], asked)}"
        case "queryParams":
            named = one.query_params[0]
            value = query_parameters(asked.query).get(named.name.encode())
            return f"query parameter {_differs(named, [] if value is None else [value])}"
    return f"{kind} is {_shown(_value(kind, asked))}, not {_wanted(kind, one)}"


def spell(match: RequestMatch) -> str:
    """All that a match asks for, in one line; empty when that is nothing."""
    return ", ".join(_spell(one) for one in conditions(match))


def connection_failure(match: ConnectionMatch, scope: Scope, sni: str) -> str:
    """The first condition of a match of connections that does not hold; empty when it holds."""
    if tcp_routes.matches(match, scope, sni):
        return ""
    if match.port not in (0, scope.port):
        return f"port is {scope.port}, not {match.port}"
    if match.source_namespace not in ("", scope.namespace):
        return f"sourceNamespace is {scope.namespace}, not {match.source_namespace}"
    for name, wanted in match.source_labels:
        if (name, wanted) not in scope.labels:
            return f"sourceLabels: {_label(scope, name)}, not {name}={wanted}"
    if match.sni_hosts:
        named = f"server name is {sni!r}" if sni else "no server name was sent"
        return f"{named}, not {' or '.join(match.sni_hosts)}"
    return f"only for gateways {', '.join(match.gateways)}"


def _spell(condition: Condition) -> str:
    kind, one = condition.field[0], condition.match
    match kind:
        case "gateways":
            return f"gateways {', '.join(one.gateways)}"
        case "port":
            return f"port {one.port}"
        case "sourceNamespace":
            return f"sourceNamespace {one.source_namespace}"
        case "sourceLabels":
            return f"sourceLabels {'='.join(one.source_labels[0])}"
        case "headers" | "queryParams":
            named = (one.headers or one.query_params)[0]
            word = "header" if one.headers else "query parameter"
            return f"{word} {named.name} {_text(named.match)}"
        case "withoutHeaders":
            return f"no header {one.without_headers[0].name} {_text(one.without_headers[0].match)}".rstrip()
    return f"{kind} {_wanted(kind, one)}"


def _value(kind: str, asked: Asked) -> bytes:
    return {"uri": asked.path, "scheme": asked.scheme, "method": asked.method, "authority": asked.host}[kind]


def _wanted(kind: str, one: RequestMatch) -> str:
    text: StringMatch | None = getattr(one, kind)
    assert text is not None
    return _text(text) + (" (without case)" if one.ignore_uri_case else "")


def _text(match: StringMatch) -> str:
    return "present" if match.kind == "present" else f"{match.kind} {match.value!r}"


def _differs(named: NamedMatch, values: list[bytes]) -> str:
    if not values:
        return f"{named.name} is not there, {_text(named.match)} is wanted"
    return f"{named.name} is {' and '.join(map(_shown, values))}, not {_text(named.match)}"


def _unwanted(named: NamedMatch, asked: Asked) -> str:
    values = asked.values(named.name.encode())
    if not values:
        return f"{named.name} is not there, which counts as empty, and {_text(named.match)} is excluded"
    return f"{named.name} is {' and '.join(map(_shown, values))}, and {_text(named.match)} is excluded"


def _label(scope: Scope, name: str) -> str:
    value = dict(scope.labels).get(name)
    return f"the caller has no label {name}" if value is None else f"the caller has {name}={value}"


def _shown(value: bytes) -> str:
    return repr(value.decode("latin-1"))
