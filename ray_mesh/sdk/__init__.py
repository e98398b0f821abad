"""What a Python program calls: :class:`AsyncMesh`, :class:`Mesh` and what they answer.

Names are loaded on first use: ``ray_mesh.sdk.state`` alone needs no HTTP client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray_mesh.sdk.attachment import AsyncAttachment, Attachment
    from ray_mesh.sdk.client import AsyncMesh
    from ray_mesh.sdk.facade import Mesh
    from ray_mesh.sdk.graph import Graph

__all__ = ["AsyncAttachment", "AsyncMesh", "Attachment", "Graph", "Mesh"]

_WHERE = {
    "AsyncAttachment": "attachment",
    "AsyncMesh": "client",
    "Attachment": "attachment",
    "Graph": "graph",
    "Mesh": "facade",
}


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value
