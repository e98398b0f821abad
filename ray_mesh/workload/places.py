"""Nodes of the connected Ray cluster, as the mesh names them."""

from __future__ import annotations

from typing import Any

from ray_mesh.actors.placement import node_name
from ray_mesh.errors import ConfigError


def live_nodes() -> dict[str, str]:
    """Ray's ids of the live nodes, by the mesh's names."""
    import ray

    untyped: Any = ray
    return {node_name(row["NodeID"]): row["NodeID"] for row in untyped.nodes() if row["Alive"]}


def ray_id(node: str) -> str:
    """Ray's id of a node.

    Raises:
        ConfigError: this process is connected to another cluster than the mesh runs on.
    """
    found = live_nodes().get(node)
    if found is None:
        raise ConfigError(
            f"this process is connected to another Ray cluster than that of the mesh's node {node}"
        )
    return found
