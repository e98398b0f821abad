"""The command that looks for what is wrong with a machine or a mesh."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from ray_mesh.cli.connection import chosen_path, chosen_state
from ray_mesh.cli.output import Format, output_option, render, say, show

if TYPE_CHECKING:
    from ray_mesh.check.finding import Finding
    from ray_mesh.sdk.state import MeshState


@click.command()
@click.option(
    "--before-up", is_flag=True, help="Look at this machine only, also when a state file names a mesh."
)
@output_option
@click.pass_context
def check(context: click.Context, before_up: bool, form: Format) -> None:
    """Check this machine and, if one is chosen, its mesh. Exits with 1 when something failed."""
    import asyncio

    from ray_mesh.check import machine

    found = list(machine.look(os.environ))
    if not before_up and chosen_path(context).exists():
        found += asyncio.run(_look(chosen_state(context)))
    show(found, form, lambda: render(("CHECK", "", "DETAIL"), [_row(one) for one in found]))
    for one in found:
        if one.fix:
            say(f"\n{one.check}: {one.detail}\n  cause: {one.cause}\n  fix:   {one.fix}\n  see:   {one.link}")
    if any(one.outcome == "failed" for one in found):
        context.exit(1)


async def _look(state: MeshState) -> list[Finding]:
    from ray_mesh.check import mesh

    return [finding async for finding in mesh.look(state)]


def _row(one: Finding) -> tuple[str, str, str]:
    return one.check, one.outcome, one.detail
