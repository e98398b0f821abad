"""From the options of the command line to a connected mesh."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

    from ray_mesh.sdk.facade import Mesh


def connect(context: click.Context) -> Mesh:
    """The mesh that ``--state`` and ``--timeout`` choose.

    Raises:
        MeshError: as :meth:`Mesh.connect`.
    """
    from ray_mesh.sdk.facade import Mesh

    return Mesh.connect(context.obj["state"], timeout_s=context.obj["timeout_s"])
