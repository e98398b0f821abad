"""Ray Mesh: a service mesh for Python and Ray.

``ray_mesh.up()`` starts a mesh here; :class:`Mesh` and :class:`AsyncMesh` talk to a running one. They
are loaded on first use, so that ``import ray_mesh`` stays light (no Ray, no pandas).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray_mesh.errors import MeshError
    from ray_mesh.launch import up
    from ray_mesh.sdk.client import AsyncMesh
    from ray_mesh.sdk.facade import Mesh

__version__ = "0.1.0"
__all__ = ["AsyncMesh", "Mesh", "MeshError", "__version__", "up"]

_WHERE = {
    "AsyncMesh": "ray_mesh.sdk.client",
    "Mesh": "ray_mesh.sdk.facade",
    "MeshError": "ray_mesh.errors",
    "up": "ray_mesh.launch",
}


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
