"""Rules that a VirtualService delegates to another one, which has no hosts; one level, as in Istio.

A rule of the delegate holds where both its own match and the delegating rule's hold. Each match of the
delegate has to lie within one of the delegating rule's, else they are in conflict and the rule holds for
nothing; admission refuses that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ray_mesh.compile.exports import sees
from ray_mesh.compile.world import World
from ray_mesh.resources import Document, VirtualServiceSpec
from ray_mesh.resources.hosts import resolve_gateway
from ray_mesh.resources.route_ways import StringMatch
from ray_mesh.resources.virtual_service import Delegate, HttpMatch, HttpRoute

_INHERITED = ("rewrite", "timeout", "retries", "fault", "cors_policy", "headers")
_MIRRORS = ("mirror", "mirror_percent", "mirror_percent_snake", "mirror_percentage", "mirrors")
_TEXTS = ("uri", "scheme", "method", "authority")
_NAMED = ("headers", "without_headers", "query_params")


@dataclass(frozen=True, slots=True)
class Owned:
    """A rule, the document it is written in, and its number there."""

    document: Document
    index: int
    rule: HttpRoute


def rules_of(world: World, document: Document) -> Iterator[Owned]:
    """The rules of a VirtualService in order, those of its delegates in the place of what delegates."""
    for index, rule in enumerate(document.read(VirtualServiceSpec).http):
        if rule.delegate is None:
            yield Owned(document, index, rule)
            continue
        delegate = delegate_of(world, document, rule.delegate)
        for number, below in enumerate(delegate.read(VirtualServiceSpec).http if delegate else ()):
            assert delegate is not None
            merged = merge(document, rule, delegate, below)
            if merged is not None:
                yield Owned(delegate, number, merged)


def delegate_of(world: World, document: Document, delegate: Delegate) -> Document | None:
    """The document that is delegated to, if there is one without hosts that is exported to here."""
    found = world.get(f"virtualservice.{delegate.namespace or document.namespace}.{delegate.name}")
    if found is None or found.read(VirtualServiceSpec).hosts:
        return None
    return found if sees(world.config, document.namespace, found) else None


def merge(root: Document, rule: HttpRoute, delegate: Document, below: HttpRoute) -> HttpRoute | None:
    """One rule of a delegate with what the delegating rule says; None when they are in conflict."""
    matches = _merge_matches(
        [_with_full_names(match, root.namespace) for match in rule.match],
        [_with_full_names(match, delegate.namespace) for match in below.match],
    )
    if matches is None:
        return None
    changes: dict[str, Any] = {"match": tuple(matches), "name": _joined(rule.name, below.name)}
    for name in _INHERITED:
        if getattr(below, name) is None:
            changes[name] = getattr(rule, name)
    if below.mirror is None and not below.mirrors:
        changes.update({name: getattr(rule, name) for name in _MIRRORS})
    return below.model_copy(update=changes)


def _joined(above: str, below: str) -> str:
    return f"{above}-{below}" if above and below else above or below


def _with_full_names(match: HttpMatch, namespace: str) -> HttpMatch:
    names = tuple(resolve_gateway(name, namespace) for name in match.gateways)
    return match.model_copy(update={"gateways": names}) if names else match


def _merge_matches(above: list[HttpMatch], below: list[HttpMatch]) -> list[HttpMatch] | None:
    if not above or not below:
        return above or below
    merged: list[HttpMatch] = []
    for match in below:
        within = [_merge_match(outer, match) for outer in above if not _conflicts(outer, match)]
        if not within:
            return None
        merged += within
    return merged


def _merge_match(above: HttpMatch, below: HttpMatch) -> HttpMatch:
    changes: dict[str, Any] = {"name": _joined(above.name, below.name)}
    for name in (*_TEXTS, "port", "source_namespace", "gateways"):
        changes[name] = getattr(below, name) or getattr(above, name)
    for name in (*_NAMED, "source_labels"):
        changes[name] = {**getattr(above, name), **getattr(below, name)}
    given = {name: value for name, value in changes.items() if value}
    given["ignore_uri_case"] = (below if below.uri is not None else above).ignore_uri_case
    return below.model_copy(update=given)


def _conflicts(above: HttpMatch, below: HttpMatch) -> bool:
    """Whether some request could match ``below`` and not ``above``, or never both."""
    if any(_is_outside(getattr(above, name), getattr(below, name)) for name in _TEXTS):
        return True
    for name in _NAMED:
        outer = getattr(above, name)
        if any(_is_outside(outer.get(key), match) for key, match in getattr(below, name).items()):
            return True
    labels = above.source_labels
    return (
        (above.ignore_uri_case != below.ignore_uri_case and above.uri is not None and below.uri is not None)
        or bool(above.port and below.port and above.port != below.port)
        or bool(
            above.source_namespace
            and below.source_namespace
            and above.source_namespace != below.source_namespace
        )
        or any(labels.get(name, value) != value for name, value in below.source_labels.items())
        or bool(above.gateways and set(below.gateways) - set(above.gateways))
    )


def _is_outside(above: StringMatch | None, below: StringMatch | None) -> bool:
    """Whether a text could match ``below`` and not ``above``. What a regex matches is not compared."""
    if above is None or below is None:
        return False
    if above.regex is not None or below.regex is not None:
        return above != below
    if above.exact is not None:
        return below.exact != above.exact
    if above.prefix is not None:
        text = below.exact if below.exact is not None else below.prefix
        return text is None or not text.startswith(above.prefix)
    return False
