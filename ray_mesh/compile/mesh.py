"""Settings of the whole mesh."""

from __future__ import annotations

from ray_mesh import snapshot
from ray_mesh.compile.callee import hosts_of
from ray_mesh.compile.world import World, is_wildcard
from ray_mesh.resources import ServiceEntrySpec
from ray_mesh.resources.mesh import ROOT_NAMESPACE


def compile_mesh(world: World) -> snapshot.Mesh:
    """What proxies need to know of them."""
    config = world.config
    policy = config.outbound_traffic_policy
    return snapshot.Mesh(
        config.trust_domain,
        ROOT_NAMESPACE,
        explains_to_outside=config.explain is not None and config.explain.gateways,
        path_normalization=config.path_normalization.word,
        trusted_proxies=config.default_config.gateway_topology.num_trusted_proxies,
        proxy_protocol=config.default_config.gateway_topology.proxy_protocol is not None,
        outbound_policy=policy.mode if policy is not None else "REGISTRY_ONLY",
        wildcards=tuple(
            sorted({host for one in world.find("wildcard") for host in hosts_of(one) if is_wildcard(host)})
        ),
        addresses=tuple(
            (address, callee.host)
            for entry in world.oldest("addresses")
            for callee in world.callees_in(entry)[:1]
            for address in entry.read(ServiceEntrySpec).addresses
        ),
    )
