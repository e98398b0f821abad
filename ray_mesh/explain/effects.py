"""What a route does to a request besides choosing its destination."""

from __future__ import annotations

from collections.abc import Iterator

from ray_mesh.explain.answer import Step
from ray_mesh.explain.asked import Asked
from ray_mesh.explain.case import Case
from ray_mesh.grpc_status import GrpcStatus
from ray_mesh.proxy.change import rewriter
from ray_mesh.snapshot import Destination, Fault, HeaderChanges, Mirror, Retries, Route


def changes(case: Case, route: Route, asked: Asked) -> Iterator[Step]:
    """The steps of one route between its match and its destinations."""

    def step(stage: str, says: str, *names: str) -> Step:
        return Step(stage, says, case.places.below(route.origin, *names))

    if route.cors is not None and asked.header(b"origin"):
        yield step("cors", "the answer gets the headers of its corsPolicy", "corsPolicy")
    if route.rewrite is not None:
        yield step("rewrite", _rewritten(route, asked), "rewrite")
    if route.authority:
        yield step("rewrite", f"Host becomes {route.authority}", "rewrite")
    for word, these in (("request", route.request_headers), ("response", route.response_headers)):
        if these is not None:
            yield step("headers", f"{word}: {spell_changes(these)}", "headers", word)
    if route.timeout_s:
        yield step("timeout", f"{route.timeout_s:g} s for the complete response, else 504 UT", "timeout")
    if route.retries is not None:
        yield step("retries", spell_retries(route.retries), "retries")
    for mirror in route.mirrors:
        yield step("mirror", _mirrored(mirror), "mirror")


def _rewritten(route: Route, asked: Asked) -> str:
    assert route.rewrite is not None
    before = asked.path.decode("latin-1")
    try:
        after = rewriter(route.rewrite)(asked.path).decode("latin-1")
    except ValueError as error:
        return f"path {before} cannot be rewritten: {error}"
    return f"path {before} becomes {after}"


def spell_fault(fault: Fault) -> str:
    """A fault in one line; empty when it never hits."""
    said = []
    if fault.delay_s and fault.delay_percent:
        said.append(f"{fault.delay_percent:g}% are delayed by {fault.delay_s:g} s")
    if fault.aborts:
        said.append(spell_abort(fault))
    return ", ".join(said)


def spell_abort(fault: Fault) -> str:
    """How many requests a fault ends, and with what."""
    grpc_status = fault.abort_grpc_status
    said = fault.abort_status if grpc_status is None else GrpcStatus(grpc_status).name
    return f"{fault.abort_percent:g}% are aborted with {said}"


def spell_changes(changed: HeaderChanges) -> str:
    """Header changes in one line."""
    parts = [f"remove {name}" for name in changed.remove]
    parts += [f"set {name}: {value}" for name, value in changed.set]
    parts += [f"add {name}: {value}" for name, value in changed.add]
    return ", ".join(parts)


def spell_retries(retries: Retries) -> str:
    """Retries in one line."""
    if not retries.attempts:
        return "none"
    on = ",".join((*retries.on, *map(str, retries.statuses)))
    said = [f"up to {retries.attempts} more tries"]
    said.append(f"on {on}" if on else "on connect failure, reset and 503 (idempotent methods only)")
    if retries.per_try_timeout_s:
        said.append(f"{retries.per_try_timeout_s:g} s for each")
    return ", ".join(said)


def spell_destination(to: Destination) -> str:
    """A destination in a few words."""
    return (
        f"{to.host}" + (f" subset {to.subset}" if to.subset else "") + (f" port {to.port}" if to.port else "")
    )


def _mirrored(mirror: Mirror) -> str:
    return f"{mirror.percent:g}% of requests are copied to {spell_destination(mirror.destination)}"
