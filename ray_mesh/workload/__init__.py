"""Applications on Ray in the mesh: served by it (:meth:`Mesh.serve`), or put into it as they are.

:func:`join` takes an existing actor that listens on a port, :func:`join_serve` Ray Serve's HTTP proxies.
"""

from __future__ import annotations

from ray_mesh.workload.joining import join, join_serve

__all__ = ["join", "join_serve"]
