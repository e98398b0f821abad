"""Who calls: the workload on whose behalf a proxy decides."""

from __future__ import annotations

from dataclasses import dataclass

from ray_mesh import snapshot
from ray_mesh.compile import World
from ray_mesh.compile.gateway_api.attachment import api_ingress_for
from ray_mesh.compile.gateway_api.terms import API_GATEWAY
from ray_mesh.compile.gateways import ingress_for
from ray_mesh.compile.workloads import compile_workload
from ray_mesh.compile.world import is_ingress
from ray_mesh.errors import ConfigError, NotFound
from ray_mesh.explain.assuming import assume_workload, is_assumed
from ray_mesh.explain.question import Caller
from ray_mesh.proxy.view import Client, client_of
from ray_mesh.resources import ApiGatewaySpec, Document, GatewaySpec
from ray_mesh.resources.kinds import key_for
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
    namespace, _, name = caller.gateway.rpartition("/")
    namespace = namespace or "default"
    workload = world.get(f"workload.{namespace}.{name}")
    if workload is not None and is_ingress(workload):
        return Source(world, workload, compile_workload(world, workload), is_gateway=True)
    gateway = _named_gateway(world, namespace, name)
    behind = (api_ingress_for if gateway.kind == API_GATEWAY else ingress_for)(world, gateway)
    if not behind:
        workload = _assumed_ingress(gateway, caller.account)
        world = world.replace({workload.key: workload})
        warning = f"no ingress workload is selected by {gateway.title}: one was assumed"
        return Source(world, workload, compile_workload(world, workload), True, gateway, (warning,))
    first, *others = behind
    warning = f"{gateway.title} selects {len(behind)} ingress workloads: this is about {first.name}"
    warnings = (warning,) if others else ()
    return Source(world, first, compile_workload(world, first), True, gateway, warnings)


def _named_gateway(world: World, namespace: str, name: str) -> Document:
    for kind in ("Gateway", API_GATEWAY):
        found = world.get(key_for(kind, namespace, name))
        if found is not None:
            return found
    terms = (("kind", "Gateway"), ("kind", API_GATEWAY), ("ingress",))
    known = [f"{one.namespace}/{one.name}" for term in terms for one in world.find(*term)]
    listed = f"; known here: {', '.join(known[:10])}" if known else ""
    raise NotFound(f"{namespace}/{name} is no Gateway and no ingress workload{listed}")


def _assumed_ingress(gateway: Document, account: str) -> Document:
    spec = gateway.spec
    if isinstance(spec, ApiGatewaySpec):
        labels, ports = spec.infrastructure.labels, [one.port for one in spec.listeners]
    else:
        servers = gateway.read(GatewaySpec)
        labels, ports = servers.selector, [one.port.number for one in servers.servers]
    bound = {port: port for port in ports}
    return assume_workload("ingress", ROOT_NAMESPACE, dict(labels), account, gateway_ports=bound)
