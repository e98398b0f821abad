"""Finds the first route that matches without asking those that another path is for.

Exact paths are looked up. Of prefixes the longest one that the path begins with is found by bisection;
all other prefixes of the path are prefixes of that one, so what may match is known for each of them
beforehand, in the order of the routes. So the cost of a request hardly depends on the number of routes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Generic, TypeVar

from ray_mesh.proxy.match import Alternative, Matchable, Predicate

T = TypeVar("T")
Candidates = list[tuple[Predicate | None, T]]


class RouteIndex(Generic[T]):
    """Routes in order: each is one of several ways to match, and a value."""

    __slots__ = ("_exact", "_nodes", "_prefixes", "_ways")

    def __init__(self, routes: Sequence[tuple[Sequence[Alternative], T]]) -> None:
        self._ways = [(one, value) for ways, value in routes for one in ways]
        self._exact: dict[bytes, Candidates[T] | None] = {
            one.exact: None for one, _ in self._ways if one.exact is not None
        }
        self._prefixes = sorted({one.prefix for one, _ in self._ways if one.exact is None} | {b""})
        self._nodes: list[_Node[T]] = []
        for prefix in self._prefixes:
            self._nodes.append(_Node(prefix, self._node(prefix) if self._nodes else None))

    def find(self, request: Matchable) -> T | None:
        """The value of the first route that matches."""
        path = request.path
        for test, value in self._exact.get(path) or self._look_up(path):
            if test is None or test(request):
                return value
        return None

    def _look_up(self, path: bytes) -> Candidates[T]:
        if path in self._exact:
            found = self._exact[path] = self._candidates(path, is_exact=True)
            return found
        node = self._node(path)
        if node.candidates is None:
            node.candidates = self._candidates(node.prefix, is_exact=False)
        return node.candidates

    def _node(self, path: bytes) -> _Node[T]:
        node = self._nodes[bisect_right(self._prefixes, path, 0, len(self._nodes)) - 1]
        while not path.startswith(node.prefix):
            assert node.parent is not None  # every path begins with the first node's prefix
            node = node.parent
        return node

    def _candidates(self, path: bytes, *, is_exact: bool) -> Candidates[T]:
        """What may match a path, or all paths that begin with it, up to what always does."""
        found: Candidates[T] = []
        for one, value in self._ways:
            if path.startswith(one.prefix) if one.exact is None else is_exact and path == one.exact:
                found.append((one.test, value))
                if one.test is None:
                    break
        return found


class _Node(Generic[T]):
    """A prefix, the longest other one that it begins with, and what may match paths that begin with it
    (None until it is asked for)."""

    __slots__ = ("candidates", "parent", "prefix")

    def __init__(self, prefix: bytes, parent: _Node[T] | None) -> None:
        self.prefix = prefix
        self.parent = parent
        self.candidates: Candidates[T] | None = None
