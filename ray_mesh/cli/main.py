"""``ray-mesh``: the command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import os
import sys

import click

from ray_mesh import __version__
from ray_mesh.cli import exits
from ray_mesh.cli.analyze import analyze
from ray_mesh.cli.backup import backup, restore
from ray_mesh.cli.check import check
from ray_mesh.cli.config import config
from ray_mesh.cli.history import diff, history, rollback
from ray_mesh.cli.lifecycle import demo, down, up
from ray_mesh.cli.nats import nats_accounts
from ray_mesh.cli.objects import apply, delete, get
from ray_mesh.cli.observe import events, graph, observe, proxies, status, version, wait
from ray_mesh.cli.schema import schema
from ray_mesh.cli.sidecar import sidecar, token
from ray_mesh.errors import MeshError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", prog_name="ray-mesh")
@click.option(
    "--state",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="State file of the mesh. [default: $RAY_MESH_STATE, else the mesh named default]",
)
@click.option(
    "--api",
    envvar="RAY_MESH_API",
    metavar="URL",
    help="Reach the mesh's API there, as through a tunnel. [default: $RAY_MESH_API, else the state file's]",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0.1),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for an answer of the mesh.",
)
@click.pass_context
def cli(context: click.Context, state: str | None, api: str | None, timeout_s: float) -> None:
    """A service mesh for Python and Ray.

    Exit codes: 0 done, 1 error, 2 usage, 3 not found, 4 unauthorised or denied, 5 unreachable or timeout,
    65 invalid configuration, 79 findings (analyze), 80 refused (config explain), 130 interrupted.
    """
    context.obj = {"state": state, "api": api or "", "timeout_s": timeout_s}


for command in (
    up,
    down,
    demo,
    check,
    apply,
    get,
    delete,
    history,
    diff,
    rollback,
    analyze,
    status,
    proxies,
    wait,
    config,
    schema,
    graph,
    events,
    observe,
    sidecar,
    token,
    backup,
    restore,
    nats_accounts,
    version,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line and exit with a code of :mod:`ray_mesh.cli.exits`."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; errors are told on stderr."""
    try:
        result = cli.main(arguments, prog_name="ray-mesh", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return exits.USAGE if isinstance(error, click.UsageError) else exits.ERROR
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return exits.INTERRUPTED
    except MeshError as error:
        click.echo(f"error: {error}", err=True)
        return exits.exit_code(error)
    except BrokenPipeError:
        # The reader went away (`| head`): Python must not complain about it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.ERROR
    return result if isinstance(result, int) else 0
