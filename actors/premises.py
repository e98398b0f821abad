"""What the parts of the controller share: how the mesh was started, what is remembered, where it runs."""

from __future__ import annotations

from dataclasses import dataclass

from ray_mesh.actors.inventory import Inventory
from ray_mesh.actors.placement import RayNode
from ray_mesh.actors.secrets import StateDir
from ray_mesh.actors.settings import MeshKeys, MeshOptions, RoleSettings


@dataclass(slots=True)
class Premises:
    """``head`` is the node of the controller and the broker, ``nodes`` the live ones by name."""

    options: MeshOptions
    state_dir: StateDir
    keys: MeshKeys
    inventory: Inventory
    head: str
    nodes: dict[str, RayNode]

    @property
    def head_node(self) -> RayNode:
        """The node of the controller and the broker."""
        return self.nodes[self.head]

    def settings(self, role: str, instance: str, node: RayNode | None = None) -> RoleSettings:
        """What an actor is started with, on the head node if no other is given."""
        node = node or self.head_node
        return RoleSettings(
            role=role,
            instance=instance,
            node=node.name,
            node_address=node.address,
            options=self.options,
            keys=self.keys,
            api_port=self.inventory.api_port,
        )

    def broker_addresses(self) -> list[str]:
        """See :func:`broker_addresses`."""
        return broker_addresses(self.head_node)


def broker_addresses(head: RayNode) -> list[str]:
    """What the broker's certificate is for."""
    return sorted({"127.0.0.1", head.address})
