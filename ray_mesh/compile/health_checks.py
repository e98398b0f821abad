"""HealthChecks: whose endpoints they check, and what admission finds in them."""

from __future__ import annotations

from collections.abc import Iterator

from ray_mesh import snapshot
from ray_mesh.compile import codes
from ray_mesh.compile.callee import Callee
from ray_mesh.compile.finding import Finding, error
from ray_mesh.compile.world import World
from ray_mesh.resources import Document, HealthCheckSpec
from ray_mesh.resources.schema import seconds


def health_check_of(world: World, callee: Callee) -> snapshot.HealthCheck | None:
    """The oldest check of a host in its own namespace."""
    for document in world.oldest("check for", callee.host):
        if document.namespace == callee.namespace:
            return _compiled(document)
    return None


def health_check_findings(world: World, document: Document) -> Iterator[Finding]:
    """Everything about one HealthCheck."""
    host = world.resolve(document.read(HealthCheckSpec).host, document.namespace)
    callee = world.callee(host)
    if callee is None:
        message = f"there is no service {host} to check"
        yield error(document, codes.NOT_FOUND, ("spec", "host"), message, "apply it first, or with this")
    elif callee.namespace != document.namespace:
        message = f"a HealthCheck belongs into the namespace of its service, {callee.namespace}"
        yield error(document, codes.NOT_FOUND, ("metadata", "namespace"), message, "put it there")


def _compiled(document: Document) -> snapshot.HealthCheck:
    spec = document.read(HealthCheckSpec)
    return snapshot.HealthCheck(
        document.title,
        spec.http.path if spec.http else "",
        seconds(spec.interval),
        seconds(spec.timeout),
        spec.unhealthy_threshold,
        spec.healthy_threshold,
    )
