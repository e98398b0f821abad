"""How VirtualServices name gateways."""

from __future__ import annotations

from ray_mesh.resources.host_names import is_host_name
from ray_mesh.resources.schema import is_label


def is_gateway_name(text: str) -> bool:
    """Whether this is ``mesh``, ``name`` or ``namespace/name``; ``.`` is the document's own namespace."""
    namespace, slash, name = text.partition("/")
    if not slash:
        return is_host_name(text)
    return (namespace == "." or is_label(namespace)) and is_label(name)
