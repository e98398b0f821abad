"""Settings of the whole mesh."""

from __future__ import annotations

from ray_mesh import snapshot
from ray_mesh.resources import MeshConfigSpec
from ray_mesh.resources.mesh import ROOT_NAMESPACE


def compile_mesh(config: MeshConfigSpec) -> snapshot.Mesh:
    """What proxies need to know of them."""
    return snapshot.Mesh(
        config.trust_domain,
        ROOT_NAMESPACE,
        explains_to_outside=config.explain is not None and config.explain.gateways,
        path_normalization=config.path_normalization.word,
        trusted_proxies=config.default_config.gateway_topology.num_trusted_proxies,
        proxy_protocol=config.default_config.gateway_topology.proxy_protocol is not None,
    )
