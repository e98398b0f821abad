"""Answers that a route gives itself: redirects and direct responses."""

from __future__ import annotations

from collections.abc import Callable

from ray_mesh.proxy.match import Matchable, Scope
from ray_mesh.proxy.replies import Reply
from ray_mesh.snapshot import DirectResponse, Redirect, Route

_PORTS = {b"http": b":80", b"https": b":443"}
Answer = Callable[[Matchable], Reply]


def answer_of(route: Route, scope: Scope) -> Answer | None:
    """The answer of a route that does not send requests on."""
    if route.redirect is not None:
        return _redirect(route.redirect, scope)
    if route.direct_response is not None:
        reply = _direct(route.direct_response)
        return lambda request: reply
    return None


def _direct(response: DirectResponse) -> Reply:
    fields = ("content-type: text/plain",) if response.body else ()
    return Reply(response.status, "", "direct_response", "a direct response", fields, content=response.body)


def _redirect(redirect: Redirect, scope: Scope) -> Answer:
    """As Envoy makes the location: the query is kept, unless the new path has one; the port that was
    asked for is kept, unless another one is said, or it is the old scheme's own and the scheme changes."""
    scheme = redirect.scheme.encode()
    port = b":%d" % (scope.port if redirect.keeps_port else redirect.port)
    port = port if port != b":0" else b""
    authority, path, length = redirect.authority.encode(), redirect.path.encode(), redirect.length

    has_query = b"?" in path

    def answer(request: Matchable) -> Reply:
        host = authority
        is_other = bool(scheme) and scheme != request.scheme
        dropped = _PORTS.get(request.scheme) if is_other else None
        if not host:
            name, colon, number = request.host.rpartition(b":")
            has_port = bool(colon) and b"]" not in number
            is_kept = not (port or redirect.drops_port or colon + number == dropped)
            host = request.host if is_kept or not has_port else name
        new = request.path
        if path or length >= 0:
            new = path if length < 0 else path + new[length:]
        location = (scheme or request.scheme) + b"://" + host + port + new
        if not has_query:
            location += request.query
        fields = (f"location: {location.decode('latin-1')}",)
        return Reply(redirect.status, "", "redirect", "a redirect", fields, content=b"")

    return answer
