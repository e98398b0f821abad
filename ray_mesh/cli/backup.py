"""Commands that keep a mesh's keys and configuration safe: backup and restore."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ray_mesh.cli.connection import chosen_state
from ray_mesh.cli.output import say
from ray_mesh.errors import ConfigError

if TYPE_CHECKING:
    from ray_mesh.actors.backup import Contents

VARIABLE = "RAY_MESH_PASSPHRASE"

passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help=f"First line is the passphrase; - is stdin. [default: ${VARIABLE}, else asked for]",
)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="State directory of the mesh, which may be down. [default: that of the running mesh]",
)
@passphrase_option
@click.option("--replace", is_flag=True, help="Overwrite FILE.")
@click.pass_context
def backup(
    context: click.Context, file: Path, state_dir: Path | None, passphrase_file: Path | None, replace: bool
) -> None:
    """Write the mesh's keys and desired state to FILE, encrypted with a passphrase.

    Runs where the state directory is; the mesh goes on meanwhile. Whoever has FILE and the passphrase can be
    the CA of this mesh.
    """
    from ray_mesh.actors.backup import make_backup
    from ray_mesh.security.sealed import write_private

    if file.exists() and not replace:
        raise ConfigError(f"{file} exists: choose another name, or give --replace")
    folder = state_dir or Path(chosen_state(context).state_dir)
    raw, contents = make_backup(folder, _passphrase(passphrase_file, confirm=True))
    try:
        write_private(file, raw)
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from error
    say(f"{file}: {_described(contents)}")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--state-dir",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to make: new or empty.",
)
@passphrase_option
def restore(file: Path, state_dir: Path, passphrase_file: Path | None) -> None:
    """Make a state directory of the backup FILE.

    `ray-mesh up --state-dir` with it starts the mesh again, with the same trust root and documents.
    Never let it run beside the mesh that the backup is of.
    """
    from ray_mesh.actors.backup import restore_backup

    contents = restore_backup(
        file.read_bytes(), _passphrase(passphrase_file, confirm=False), state_dir.absolute()
    )
    say(f"{state_dir}: {_described(contents)}")
    say(f"start it with `ray-mesh up --state-dir {state_dir}`; sidecars join again with new tokens")


def _passphrase(file: Path | None, *, confirm: bool) -> str:
    if file is not None:
        text = sys.stdin.readline() if str(file) == "-" else file.read_text()
        return text.split("\n", 1)[0].rstrip("\r")
    if VARIABLE in os.environ:
        return os.environ[VARIABLE]
    if not sys.stdin.isatty():
        raise ConfigError(f"no passphrase: give --passphrase-file, or set ${VARIABLE}")
    return str(click.prompt("passphrase", hide_input=True, confirmation_prompt=confirm, err=True))


def _described(contents: Contents) -> str:
    root = f"trust root {contents.root_sha256[:16]}, package {contents.version}"
    if not contents.at:
        return f"the keys of a mesh without documents ({root})"
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(contents.at))
    return f"the keys of a mesh and its {contents.documents} documents of {at} UTC ({root})"
