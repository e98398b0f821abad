"""Who calls: the workload on whose behalf a proxy decides."""

from __future__ import annotations

from dataclasses import dataclass

from ray_mesh import snapshot
from ray_mesh.compile import World
from ray_mesh.compile.gateways import ingress_for
from ray_mesh.compile.workloads import compile_workload
from ray_mesh.compile.world import is_ingress
from ray_mesh.errors import ConfigError, NotFound
from ray_mesh.explain.assuming import assume_workload, is_assumed
from ray_mesh.explain.question import Caller
from ray_mesh.proxy.view import Client, client_of
from ray_mesh.resources import Document, GatewaySpec
from ray_mesh.resources.mesh import ROOT_NAMESPACE


@dataclass(frozen=True, slots=True)
class Source:
    """A caller in a world that has it. ``gateway`` is the Gateway that was named, if one was."""

    world: World
    document: Document
    workload: snapshot.Workload
    is_gateway: bool = False
    gateway: Document | None = None
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """``namespace/name``."""
        return f"{self.workload.namespace}/{self.workload.name}"

    @property
    def client(self) -> Client:
        """As proxies see it when they choose what holds for a caller."""
        return client_of(self.workload)

    @property
    def listener(self) -> str:
        """Its outbound listener, in words."""
        who = "the caller" if is_assumed(self.document) else self.name
        return f"outbound listener of {who} (127.0.0.1:{self.workload.outbound_port})"

    @property
    def principal(self) -> str:
        """Its identity as policies know it."""
        return self.workload.identity.removeprefix("spiffe://")


def find_caller(world: World, caller: Caller) -> Source:
    """The caller.

    Raises:
        NotFound: no document has the workload or gateway.
        ConfigError: nobody is named, or a name is none.
    """
    if caller.gateway:
        return _gateway(world, caller)
    if caller.workload:
        return _source(world, _registered(world, caller.workload))
    if not caller.labels:
        raise ConfigError("who calls is not said: name a workload, a gateway, or labels of a workload")
    document = assume_workload("caller", caller.namespace, dict(caller.labels), caller.account)
    return _source(world.replace({document.key: document}), document)


def _source(world: World, document: Document) -> Source:
    return Source(world, document, compile_workload(world, document))


def _registered(world: World, name: str) -> Document:
    namespace, _, plain = name.rpartition("/")
    found = world.get(f"workload.{namespace or 'default'}.{plain}")
    if found is None:
        known = [f"{one.namespace}/{one.name}" for one in world.find("kind", "Workload")]
        listed = f"; workloads here: {', '.join(known[:10])}" if known else "; no document here is a workload"
        raise NotFound(f"workload {namespace or 'default'}/{plain} does not exist{listed}; or say its labels")
    return found


def _gateway(world: World, caller: Caller) -> Source:
    namespace, _, plain = caller.gateway.rpartition("/")
    namespace = namespace or "default"
    workload = world.get(f"workload.{namespace}.{plain}")
    if workload is not None and is_ingress(workload):
        return Source(world, workload, compile_workload(world, workload), is_gateway=True)
    gateway = world.get(f"gateway.{namespace}.{plain}")
    if gateway is None or not isinstance(gateway.spec, GatewaySpec):
        known = [
            f"{one.namespace}/{one.name}" for one in (*world.find("kind", "Gateway"), *world.find("ingress"))
        ]
        listed = f"; known here: {', '.join(known[:10])}" if known else ""
        raise NotFound(f"{namespace}/{plain} is no Gateway and no ingress workload{listed}")
    warnings: tuple[str, ...] = ()
    behind = ingress_for(world, gateway)
    if behind:
        workload = behind[0]
        if len(behind) > 1:
            warnings = (
                f"{gateway.title} selects {len(behind)} ingress workloads: this is about {workload.name}",
            )
    else:
        workload = _assumed_ingress(gateway, caller.account)
        world = world.replace({workload.key: workload})
        warnings = (f"no ingress workload is selected by {gateway.title}: one was assumed",)
    return Source(world, workload, compile_workload(world, workload), True, gateway, warnings)


def _assumed_ingress(gateway: Document, account: str) -> Document:
    spec = gateway.read(GatewaySpec)
    ports = {server.port.number: server.port.number for server in spec.servers}
    return assume_workload("ingress", ROOT_NAMESPACE, dict(spec.selector), account, gateway_ports=ports)
