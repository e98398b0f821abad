"""What a route changes of a message on its way: header fields, Host, the path.

Blocks of fields begin and end with CRLF, as in :mod:`.head`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ray_mesh.patterns import compile_pattern, compile_template
from ray_mesh.proxy.path import BASE
from ray_mesh.proxy.pipeline import Request
from ray_mesh.snapshot import Destination, HeaderChanges, Rewrite, Route

MAX_REPLACED = 100
"""How many matches of an expression are replaced in one path; one search costs the length of the path."""

Edit = Callable[[bytes], bytes]
"""Makes a block of fields from a block of fields."""


def edit_of(changes: HeaderChanges | None, authority: str = "") -> Edit | None:
    """The edit of these changes; ``authority`` replaces Host."""
    changes = changes or HeaderChanges()
    cut = {name.encode() for name in (*changes.remove, *(name for name, _ in changes.set))}
    pairs = (*changes.set, *changes.add)
    added = b"".join(b"%b: %b\r\n" % (name.encode(), value.encode()) for name, value in pairs)
    first = b""
    if authority:
        cut.add(b"host")
        first = b"\r\nhost: " + authority.encode()
    if not cut:
        return (lambda block: block + added) if added else None
    lines = re.compile(rb"\r\n(?:%b):[^\r]*" % b"|".join(map(re.escape, sorted(cut))), re.IGNORECASE)
    return lambda block: first + lines.sub(b"", block) + added


def chain(first: Edit | None, second: Edit | None) -> Edit | None:
    """One edit after the other."""
    if first is None or second is None:
        return first or second
    return lambda block: second(first(block))


def rewriter(rewrite: Rewrite) -> Callable[[bytes], bytes]:
    """Makes the new path from a path, both without query; raises ValueError when that is no normal path."""
    change = _by_pattern(rewrite) if rewrite.pattern else _by_length(rewrite)

    def rewritten(path: bytes) -> bytes:
        new = change(path)
        # "/a../x" with "/a" rewritten to "/b/" would leave "/b/" at whoever resolves it. What was not
        # normal before is so because the mesh is not to normalize.
        if not _is_normal(new) and _is_normal(path):
            raise ValueError("it contains dot segments or a query")
        return new

    return rewritten


def _is_normal(path: bytes) -> bool:
    return BASE.split(path) == (path, b"")


def _by_length(rewrite: Rewrite) -> Callable[[bytes], bytes]:
    new, length = rewrite.path.encode(), rewrite.length
    if length < 0:
        return lambda path: new
    return lambda path: new + path[length:]


def _by_pattern(rewrite: Rewrite) -> Callable[[bytes], bytes]:
    """Every match is replaced as RE2's GlobalReplace does: no empty match right behind another match."""
    pattern = compile_pattern(rewrite.pattern)
    parts = [
        part.encode() if isinstance(part, str) else part
        for part in compile_template(rewrite.template, pattern.groups)
    ]

    def change(path: bytes) -> bytes:
        made: list[bytes] = []
        position, replaced = 0, 0
        for found in pattern.finditer(path):
            start, end = found.span()
            if start == end == position and replaced:
                continue
            if replaced == MAX_REPLACED:
                raise ValueError(f"the expression matches more than {MAX_REPLACED} times")
            replaced += 1
            made.append(path[position:start])
            made += [part if isinstance(part, bytes) else found.group(part) or b"" for part in parts]
            position = end
        made.append(path[position:])
        return b"".join(made)

    return change


class Change:
    """What becomes of the requests that go to one destination."""

    __slots__ = ("_edit", "_response", "_rewrite")

    def __init__(self, edit: Edit | None, response: Edit | None, rewrite: Callable[[bytes], bytes] | None):
        self._edit = edit
        self._response = response
        self._rewrite = rewrite

    def apply(self, request: Request) -> None:
        """Change it, once.

        Raises:
            ValueError: the new path is none that may be forwarded.
        """
        if self._rewrite is not None:
            path = self._rewrite(request.path)
            request.asked = request.path + request.query
            request.path = path
        if self._edit is not None:
            request.fields = self._edit(request.fields + request.extra)
            request.extra = b""
        if self._response is not None:
            request.edit = chain(self._response, request.edit)


def change_of(route: Route, destination: Destination) -> Change | None:
    """The changes of a destination, then those of its route; None when there are none."""
    authority = destination.authority or route.authority
    edit = chain(edit_of(destination.request_headers, authority), edit_of(route.request_headers))
    response = edit_of(destination.response_headers)
    rewrite = rewriter(route.rewrite) if route.rewrite is not None else None
    if edit is None and response is None and rewrite is None:
        return None
    return Change(edit, response, rewrite)
