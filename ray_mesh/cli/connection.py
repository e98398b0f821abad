"""From the options of the command line to a mesh."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

    from ray_mesh.sdk.facade import Mesh
    from ray_mesh.sdk.state import MeshState


def chosen_path(context: click.Context) -> Path:
    """The state file that ``--state`` names, else the default one."""
    from ray_mesh.sdk.state import default_path

    return Path(context.obj["state"] or default_path())


def chosen_state(context: click.Context) -> MeshState:
    """The mesh that ``--state`` names, reached at ``--api`` if that is given.

    Raises:
        MeshError: as :func:`~ray_mesh.sdk.state.read_state`.
    """
    from ray_mesh.sdk.state import read_state

    state = read_state(chosen_path(context))
    return replace(state, api=context.obj["api"]) if context.obj["api"] else state


def connect(context: click.Context) -> Mesh:
    """The mesh that ``--state``, ``--api`` and ``--timeout`` choose.

    Raises:
        MeshError: as :meth:`Mesh.connect`.
    """
    from ray_mesh.sdk.facade import Mesh

    mesh = Mesh(chosen_state(context), timeout_s=context.obj["timeout_s"])
    try:
        mesh.version()
    except BaseException:
        mesh.close()
        raise
    return mesh
