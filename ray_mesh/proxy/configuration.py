"""The configuration in force: resources are taken into it and out of it while requests pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_mesh import snapshot
from ray_mesh.errors import ConfigError, PeerError
from ray_mesh.proxy.caller import Effects
from ray_mesh.proxy.hosting import Hosting
from ray_mesh.proxy.listener import LOOPBACK
from ray_mesh.proxy.path import PATHS
from ray_mesh.proxy.registry import Registry
from ray_mesh.proxy.route_check import unusable_route

if TYPE_CHECKING:
    from ray_mesh.proxy.plane import DataPlane


class Configuration:
    """What one plane serves and knows, by the keys of its resources."""

    def __init__(self, plane: DataPlane, effects: Effects, hosting: Hosting) -> None:
        self._plane = plane
        self._effects = effects
        self._hosting = hosting
        self._registry: Registry = effects.registry

    def apply(self, key: str, resource: snapshot.Resource | None) -> None:
        """See :meth:`.plane.DataPlane.apply`."""
        kind = snapshot.kind_of(key)
        if resource is not None:
            _check(key, kind, resource)
        match resource:
            case snapshot.Workload():
                self._place(key, resource)
            case snapshot.Gateway(namespace=namespace, name=name):
                self._hosting.set_gateway(f"workload.{namespace}.{name}", resource)
            case snapshot.Mesh():
                self._check_mesh(key, resource)
                self._take_mesh(resource)
            case snapshot.Service():
                self._hosting.forget(self._registry.set_service(resource.host, resource))
                self._forget_views()
            case snapshot.Endpoints():
                self._set_endpoints(resource.host, resource)
            case None:
                self._remove(key, kind)
            case snapshot.Node():
                pass  # its workloads come one by one

    def resources(self) -> dict[str, snapshot.Resource]:
        """What is in force, by key."""
        found: dict[str, snapshot.Resource] = {**self._hosting.resources()}
        for destination in self._registry:
            host = destination.host
            if destination.service is not None:
                found[snapshot.key_for("service", host)] = destination.service
            if destination.members is not None:
                found[snapshot.key_for("endpoints", host)] = snapshot.Endpoints(
                    host, tuple(destination.members)
                )
        return found

    def _remove(self, key: str, kind: str) -> None:
        _, namespace, name = key.split(".", 2)
        host = snapshot.host_for(key)
        if kind == "workload":
            self._hosting.remove(key)
        elif kind == "gateway":
            self._hosting.set_gateway(f"workload.{namespace}.{name}", None)
        elif kind == "mesh":
            self._take_mesh(snapshot.Mesh(self._plane.config.trust_domain, ""))
        elif kind == "service":
            self._hosting.forget(self._registry.set_service(host, None))
            self._forget_views()
        elif kind == "endpoints":
            self._set_endpoints(host, None)
            self._forget_views()

    def _set_endpoints(self, host: str, endpoints: snapshot.Endpoints | None) -> None:
        self._hosting.forget(self._registry.set_endpoints(host, endpoints))

    def _place(self, key: str, workload: snapshot.Workload) -> None:
        config = self._plane.config
        if workload.node != config.node:
            raise PeerError(f"{key} belongs to node {workload.node}, this is {config.node}")
        own = (LOOPBACK, "localhost", config.bind_address)
        if workload.app_port == self._plane.inbound_port and workload.app_address in own:
            raise ConfigError(f"{key}: application port {workload.app_port} is the mesh's own mTLS port")
        self._hosting.place(key, workload)

    def _check_mesh(self, key: str, mesh: snapshot.Mesh) -> None:
        own = self._plane.config.trust_domain
        if mesh.trust_domain != own:
            raise PeerError(f"{key} is of {mesh.trust_domain}, this is {own}")

    def _take_mesh(self, mesh: snapshot.Mesh) -> None:
        self._plane.paths = PATHS[mesh.path_normalization]
        self._effects.topology.trusted_proxies = mesh.trusted_proxies
        self._effects.topology.proxy_protocol = mesh.proxy_protocol
        if self._effects.boundary.take(mesh):
            self._forget_views()
        if self._effects.explaining.gateways != mesh.explains_to_outside:
            self._effects.explaining.gateways = mesh.explains_to_outside
            for local in self._hosting:  # the next proxy is told as well
                for ingress in local.all_ingresses():
                    ingress.forget_views()

    def _forget_views(self) -> None:
        for local in self._hosting:
            local.forget_views()


def _check(key: str, kind: str, resource: snapshot.Resource) -> None:
    """A resource must be what its key says. Raises PeerError."""
    if not isinstance(resource, snapshot.KINDS[kind]):
        raise PeerError(f"{key} holds a {type(resource).__name__}")
    match resource:
        case snapshot.Endpoints(host=host) | snapshot.Service(host=host):
            expected = snapshot.key_for(kind, host)
        case (
            snapshot.Workload(namespace=namespace, name=name)
            | snapshot.Gateway(namespace=namespace, name=name)
        ):
            expected = f"{kind}.{namespace}.{name}"
        case _:
            return
    if expected != key:
        raise PeerError(f"{key} holds {expected}")
    if cause := unusable_route(resource):
        raise PeerError(f"{key} cannot be used here: {cause}")
