"""Route matching: Istio's HTTPMatchRequest as predicates over one request.

What depends on the caller only (labels, namespace, gateway, port asked for) is decided once, when
routes are compiled for that caller: what is left for each request is a short list of closures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ray_mesh.patterns import compile_pattern
from ray_mesh.proxy.path import query_parameters
from ray_mesh.snapshot import NamedMatch, RequestMatch, StringMatch


class Matchable(Protocol):
    """What a predicate looks at. ``query`` begins with ``?`` or is empty, ``host`` is in lower case."""

    @property
    def scheme(self) -> bytes: ...
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

    def values(self, name: bytes) -> list[bytes]:
        """The values of each of its lines."""


Predicate = Callable[[Matchable], bool]


@dataclass(frozen=True, slots=True)
class Scope:
    """Who asks: a workload of the mesh, or a gateway workload on behalf of the outside."""

    namespace: str
    labels: frozenset[tuple[str, str]]
    port: int
    is_gateway: bool = False


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way to match: a path, or (without ``exact``) what it begins with, and what else to ask."""

    exact: bytes | None = None
    prefix: bytes = b""
    test: Predicate | None = None

    @property
    def is_certain(self) -> bool:
        """Whether every request matches."""
        return self.exact is None and not self.prefix and self.test is None


def alternatives(matches: Sequence[RequestMatch], scope: Scope) -> list[Alternative]:
    """The ways in which a caller's requests may match; without any match they always do."""
    if not matches:
        return [Alternative()]
    return [_alternative(match) for match in matches if _applies(match, scope)]


def _alternative(match: RequestMatch) -> Alternative:
    predicates = _predicates(match)
    uri = match.uri
    exact, prefix = None, b""
    if uri is not None and not match.ignore_uri_case and uri.kind == "exact":
        exact = uri.value.encode()
    elif uri is not None and not match.ignore_uri_case and uri.kind == "prefix":
        prefix = uri.value.encode()
    elif uri is not None:
        predicates.append(_uri(uri, match.ignore_uri_case))
    return Alternative(exact, prefix, _all(predicates))


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
    )


def _predicates(match: RequestMatch) -> list[Predicate]:
    predicates: list[Predicate] = []
    if match.scheme is not None:
        predicates.append(_scheme(match.scheme))
    if match.method is not None:
        predicates.append(_method(match.method))
    if match.authority is not None:
        predicates.append(_authority(match.authority))
    predicates += [_header(named) for named in match.headers]
    predicates += [_without_header(named) for named in match.without_headers]
    if match.query_params:
        predicates.append(_query(match.query_params))
    return predicates


def _all(predicates: list[Predicate]) -> Predicate | None:
    if not predicates:
        return None
    first, *others = predicates
    if not others:
        return first
    if len(others) == 1:
        second = others[0]
        return lambda request: first(request) and second(request)
    return lambda request: first(request) and all(predicate(request) for predicate in others)


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


def _scheme(match: StringMatch) -> Predicate:
    test = text_test(match)
    return lambda request: test(request.scheme)


def _method(match: StringMatch) -> Predicate:
    test = text_test(match)
    return lambda request: test(request.method)


def _uri(match: StringMatch, ignore_case: bool) -> Predicate:
    if ignore_case and match.kind != "regex":
        test = text_test(match, fold_case=True)
        return lambda request: test(request.path.lower())
    test = text_test(match)
    return lambda request: test(request.path)


def _authority(match: StringMatch) -> Predicate:
    """Host as it was sent, with its port if it has one, as in Envoy; in lower case, as hosts have none."""
    test = text_test(match, fold_case=True)
    return lambda request: test(request.host)


def _header(named: NamedMatch) -> Predicate:
    """Of a header that is there several times one value has to match, as in Envoy."""
    name, test = named.name.encode(), text_test(named.match)

    def matches(request: Matchable) -> bool:
        values = request.values(name)
        return bool(values) and (test(values[0]) or any(test(value) for value in values[1:]))

    return matches


def _without_header(named: NamedMatch) -> Predicate:
    """None of its values may match. A header that is not there counts as an empty one, as in Istio."""
    name, test = named.name.encode(), text_test(named.match)
    if named.match.kind == "present":
        return lambda request: not request.values(name)
    return lambda request: not any(test(value) for value in request.values(name) or (b"",))


def _query(named: tuple[NamedMatch, ...]) -> Predicate:
    """Parameters as they were sent: Envoy decodes nothing."""
    tests = [(each.name.encode(), text_test(each.match)) for each in named]

    def matches(request: Matchable) -> bool:
        values = query_parameters(request.query)
        return all(name in values and test(values[name]) for name, test in tests)

    return matches
