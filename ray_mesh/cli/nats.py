"""The command for the administrator of a NATS that a mesh shall use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ray_mesh.cli.output import say

if TYPE_CHECKING:
    from ray_mesh.bus.credentials import Credential


@click.command("nats-accounts")
@click.option("--control", default="", metavar="NKEY", help="Public key (U...) of the user of the roles.")
@click.option(
    "--proxies",
    default="",
    metavar="NKEY",
    help="Public key (U...) of the proxies' user. [default: none, one account for all]",
)
@click.option(
    "--keys",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Make both keys in this folder instead (control.nk and proxies.nk, mode 0600), or use those that are"
    " there.",
)
def nats_accounts(control: str, proxies: str, keys: Path | None) -> None:
    """Print the accounts block of a nats-server for `up --nats`: users, allow-lists, exports and imports."""
    from ray_mesh.bus.server import render_accounts

    if bool(keys) == bool(control) or (keys and proxies):
        raise click.UsageError("give either --keys, or --control and maybe --proxies")
    if keys is not None:
        keys.mkdir(mode=0o700, parents=True, exist_ok=True)
        control, proxies = (_key(keys / name).public for name in ("control.nk", "proxies.nk"))
    click.echo(render_accounts(control, proxies), nl=False)
    if keys is not None:
        say(f"--nats-creds {keys / 'control.nk'} --nats-proxy-creds {keys / 'proxies.nk'}")


def _key(path: Path) -> Credential:
    from ray_mesh.bus.credentials import Credential

    if not path.exists():
        Credential.generate().write(path)
    return Credential.read(path)
