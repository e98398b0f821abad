"""Which DestinationRules hold for a host, by who calls it.

As in Istio: those in the caller's namespace, else those that the service's namespace exports to it, else
those of the root namespace; of these the ones with the most specific host. A ``workloadSelector`` picks
callers of the rule's own namespace; where it picks none the search goes on as if the rule were not there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ray_mesh.compile.callee import Callee
from ray_mesh.compile.exports import PUBLIC, exported_to, is_private
from ray_mesh.compile.world import World, rule_hosts
from ray_mesh.resources import DestinationRuleSpec, Document
from ray_mesh.resources.destination_rule import Subset, TrafficPolicy
from ray_mesh.resources.hosts import pattern_covers, specificity
from ray_mesh.resources.mesh import ROOT_NAMESPACE
from ray_mesh.snapshot import EXPORTED_TO_NOBODY, Labels, is_exported

Rank = tuple[bool, int]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A rule that covers the host, how exactly, to whom it is exported, and the callers that it picks."""

    document: Document
    rank: Rank
    exports: tuple[str, ...]
    selector: Labels | None

    @property
    def namespace(self) -> str:
        return self.document.namespace


@dataclass(frozen=True, slots=True)
class RulesFor:
    """The rules for callers in ``namespace`` (empty: any that no other one names) with ``labels``."""

    namespace: str
    labels: Labels
    rules: tuple[Document, ...]


def rules_for(world: World, callee: Callee, namespace: str = "") -> list[Document]:
    """The rules of a host for callers in a namespace that no selector picks, the oldest first; without a
    namespace for callers in one that no rule names."""
    return list(_found(_candidates(world, callee), callee.namespace, namespace))


def rules_by_client(world: World, callee: Callee) -> list[RulesFor]:
    """Who gets other rules than most, the first that is for a caller holds; the last one is for all."""
    candidates = _candidates(world, callee)
    usual = _found(candidates, callee.namespace, "")
    found: list[RulesFor] = []
    for namespace in sorted(_named(candidates)):
        general = _found(candidates, callee.namespace, namespace)
        for selector in _selectors(candidates, namespace):
            picked = _found(candidates, callee.namespace, namespace, selector)
            if picked != general:
                found.append(RulesFor(namespace, selector, picked))
        if general != usual:
            found.append(RulesFor(namespace, (), general))
    return [*found, RulesFor("", (), usual)]


def every_rule(world: World, callee: Callee) -> list[Document]:
    """All rules that hold for some caller, the oldest first."""
    found = {rule.key: rule for one in rules_by_client(world, callee) for rule in one.rules}
    return sorted(found.values(), key=lambda rule: (rule.admitted_at, rule.key))


def merge_rules(rules: Iterable[Document]) -> tuple[TrafficPolicy | None, list[Subset]]:
    """The first traffic policy, and the subsets of all rules, the first of each name."""
    policy: TrafficPolicy | None = None
    subsets: dict[str, Subset] = {}
    for rule in rules:
        spec = rule.read(DestinationRuleSpec)
        policy = policy or spec.traffic_policy
        for subset in spec.subsets:
            subsets.setdefault(subset.name, subset)
    return policy, list(subsets.values())


def _candidates(world: World, callee: Callee) -> list[_Candidate]:
    """Oldest first."""
    config = world.config
    found = []
    for document in world.oldest("rule for", callee.host) + world.oldest("rule for pattern"):
        ranks = [specificity(one) for one in rule_hosts(document) if pattern_covers(one, callee.host)]
        exports = exported_to(config, document)
        if ranks and exports != (EXPORTED_TO_NOBODY,):
            picks = document.read(DestinationRuleSpec).workload_selector
            selector = tuple(sorted(picks.match_labels.items())) if picks is not None else None
            found.append(_Candidate(document, max(ranks), exports, selector))
    return sorted(found, key=lambda one: (one.document.admitted_at, one.document.key))


def _found(
    candidates: list[_Candidate], owner: str, namespace: str, selector: Labels | None = None
) -> tuple[Document, ...]:
    """The rules for callers in a namespace, and with the labels of a selector."""
    own = [one for one in candidates if one.namespace == namespace and _is_own(one)]
    if best := _best([one for one in own if one.selector in (None, selector)]):
        return best
    for source in (owner, ROOT_NAMESPACE):
        exported = [
            one
            for one in candidates
            if one.namespace == source
            and one.selector is None
            and not is_private(one.document, one.exports)
            and is_exported(one.exports, namespace)
        ]
        if best := _best(exported):
            return best
    return ()


def _is_own(one: _Candidate) -> bool:
    """Whether it is for callers of its own namespace. What the root namespace exports is for the whole mesh,
    so its own callers come to that last, as all others do."""
    if one.namespace == ROOT_NAMESPACE and one.selector is None:
        return is_private(one.document, one.exports)
    return is_exported(one.exports, one.namespace)


def _best(candidates: list[_Candidate]) -> tuple[Document, ...]:
    """The most specific ones, what picks callers before what does not."""
    rank = max((one.rank for one in candidates), default=None)
    kept = [one for one in candidates if one.rank == rank]
    return tuple(one.document for one in sorted(kept, key=lambda one: one.selector is None))


def _named(candidates: list[_Candidate]) -> set[str]:
    """The namespaces whose callers may get something else than most."""
    named = {one.namespace for one in candidates}
    return named.union(*(one.exports for one in candidates if one.exports != PUBLIC))


def _selectors(candidates: list[_Candidate], namespace: str) -> list[Labels]:
    """The selectors of a namespace's rules: those of the most specific host first, then the oldest."""
    own = [one for one in candidates if one.namespace == namespace and one.selector is not None]
    own.sort(key=lambda one: one.rank, reverse=True)
    return list(dict.fromkeys(one.selector for one in own if one.selector is not None))
