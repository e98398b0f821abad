"""Route matching: Istio's HTTPMatchRequest as predicates over one request.

What depends on the caller only (labels, namespace, gateway, port asked for) is decided once, when
routes are compiled for that caller: what is left for each request is a short list of closures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote_to_bytes

from ray_mesh.patterns import compile_pattern
from ray_mesh.proxy.hosts import split_authority
from ray_mesh.proxy.path import query_parameters
from ray_mesh.snapshot import NamedMatch, RequestMatch, Route, StringMatch


class Matchable(Protocol):
    """What a predicate looks at. ``query`` begins with ``?`` or is empty, ``host`` is in lower case."""

    @property
    def method(self) -> bytes: ...
    @property
    def path(self) -> bytes: ...
    @property
    def query(self) -> bytes: ...
    @property
    def host(self) -> bytes: ...
    def header(self, name: bytes) -> bytes | None:
        """The joined values of a header field; ``name`` in lower case."""


Predicate = Callable[[Matchable], bool]


@dataclass(frozen=True, slots=True)
class Scope:
    """Who asks, and how: a workload of the mesh, or a gateway workload on behalf of the outside.

    ``scheme`` is what the listener speaks.
    """

    namespace: str
    labels: frozenset[tuple[str, str]]
    port: int
    is_gateway: bool = False
    scheme: str = "http"


def compile_matches(matches: Sequence[RequestMatch], scope: Scope) -> Predicate | bool | None:
    """True: always matches. False: never. Otherwise the predicate to ask for each request."""
    if not matches:
        return True
    alternatives = []
    for match in matches:
        if not _applies(match, scope):
            continue
        predicates = _predicates(match)
        if not predicates:
            return True
        alternatives.append(predicates[0] if len(predicates) == 1 else _all(predicates))
    if not alternatives:
        return False
    return alternatives[0] if len(alternatives) == 1 else _any(alternatives)


def matching_routes(routes: Sequence[Route], scope: Scope) -> list[tuple[Predicate | None, Route]]:
    """The routes that can match for a caller, in order; None stands for "always"."""
    kept: list[tuple[Predicate | None, Route]] = []
    for route in routes:
        predicate = compile_matches(route.matches, scope)
        if predicate is False:
            continue
        if predicate is True:
            kept.append((None, route))
            break
        assert callable(predicate)
        kept.append((predicate, route))
    return kept


def _applies(match: RequestMatch, scope: Scope) -> bool:
    if scope.is_gateway:
        named = not match.gateways or any(gateway != "mesh" for gateway in match.gateways)
    else:
        named = not match.gateways or "mesh" in match.gateways
    return (
        named
        and match.port in (0, scope.port)
        and match.source_namespace in ("", scope.namespace)
        and scope.labels.issuperset(match.source_labels)
        and (match.scheme is None or text_test(match.scheme)(scope.scheme.encode()))
    )


def _predicates(match: RequestMatch) -> list[Predicate]:
    predicates: list[Predicate] = []
    if match.method is not None:
        predicates.append(_method(match.method))
    if match.uri is not None:
        predicates.append(_uri(match.uri, match.ignore_uri_case))
    if match.authority is not None:
        predicates.append(_authority(match.authority))
    predicates += [_header(named) for named in match.headers]
    predicates += [_without_header(named) for named in match.without_headers]
    if match.query_params:
        predicates.append(_query(match.query_params))
    return predicates


def _all(predicates: list[Predicate]) -> Predicate:
    first, *others = predicates
    if len(others) == 1:
        second = others[0]
        return lambda request: first(request) and second(request)
    return lambda request: first(request) and all(predicate(request) for predicate in others)


def _any(predicates: list[Predicate]) -> Predicate:
    return lambda request: any(predicate(request) for predicate in predicates)


def text_test(match: StringMatch, fold_case: bool = False) -> Callable[[bytes], bool]:
    """The test of one text; ``fold_case`` says that the text is in lower case (a regex is as written)."""
    if match.kind == "regex":
        fullmatch = compile_pattern(match.value).fullmatch
        return lambda text: fullmatch(text) is not None
    value = match.value.lower().encode() if fold_case else match.value.encode()
    if match.kind == "exact":
        return value.__eq__
    if match.kind == "prefix":
        return lambda text: text.startswith(value)
    return lambda text: True


def _method(match: StringMatch) -> Predicate:
    test = text_test(match)
    return lambda request: test(request.method)


def _uri(match: StringMatch, ignore_case: bool) -> Predicate:
    value = match.value.encode()
    if match.kind == "regex" or match.kind == "present":
        test = text_test(match)
        return lambda request: test(request.path)
    if ignore_case:
        test = text_test(match, fold_case=True)
        return lambda request: test(request.path.lower())
    if match.kind == "prefix":
        return lambda request: request.path.startswith(value)
    return lambda request: request.path == value


def _authority(match: StringMatch) -> Predicate:
    test = text_test(match, fold_case=True)

    def matches(request: Matchable) -> bool:
        split = split_authority(request.host)
        return test(request.host) or (split is not None and test(split[0].encode()))

    return matches


def _header(named: NamedMatch) -> Predicate:
    name, test = named.name.encode(), text_test(named.match)

    def matches(request: Matchable) -> bool:
        value = request.header(name)
        return value is not None and test(value)

    return matches


def _without_header(named: NamedMatch) -> Predicate:
    """A header that is not there counts as an empty one, as in Istio."""
    name, test = named.name.encode(), text_test(named.match)
    if named.match.kind == "present":
        return lambda request: request.header(name) is None
    return lambda request: not test(request.header(name) or b"")


def _query(named: tuple[NamedMatch, ...]) -> Predicate:
    tests = [(each.name.encode(), text_test(each.match)) for each in named]

    def matches(request: Matchable) -> bool:
        values = query_parameters(request.query, _decode_parameter)
        return all(name in values and test(values[name]) for name, test in tests)

    return matches


def _decode_parameter(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))
