"""From documents to compiled resources: pure and deterministic.

A :class:`World` is all desired state at one moment. :func:`compile_key` makes the resource of one key,
:func:`compile_endpoints` those that also depend on who is alive, :func:`affected` says which keys a
change may alter, and :func:`admit` judges a change before it is stored.
"""

from ray_mesh.compile.admission import admit, has_errors
from ray_mesh.compile.affected import affected
from ray_mesh.compile.endpoints import LiveWorkload, compile_endpoints
from ray_mesh.compile.finding import Finding
from ray_mesh.compile.grounds import Grounds, grounds_of
from ray_mesh.compile.keys import compile_key, split_key, stored_key, stored_keys
from ray_mesh.compile.world import World

__all__ = [
    "Finding",
    "Grounds",
    "LiveWorkload",
    "World",
    "admit",
    "affected",
    "compile_endpoints",
    "compile_key",
    "grounds_of",
    "has_errors",
    "split_key",
    "stored_key",
    "stored_keys",
]
