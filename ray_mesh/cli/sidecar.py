"""Commands for programs outside Ray: sidecar, and the tokens that admit them."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import click

from ray_mesh.cli.connection import chosen_state, connect
from ray_mesh.cli.output import say
from ray_mesh.errors import ConfigError

NODE_LENGTH = 100


@click.group()
def token() -> None:
    """Tokens that let a sidecar join."""


@token.command()
@click.option(
    "--service-account",
    required=True,
    metavar="NAMESPACE/NAME",
    help="The only service account that the sidecar may run as.",
)
@click.option(
    "--ttl",
    "ttl_s",
    type=click.IntRange(1, 86400),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="How long the token can be used.",
)
@click.pass_context
def create(context: click.Context, service_account: str, ttl_s: int) -> None:
    """Make a token that is good for one sidecar, and print it: it is told only now."""
    with connect(context) as mesh:
        made = mesh.create_token(service_account, ttl_s=ttl_s)
    click.echo(made)
    say(f"good once, for {ttl_s} s, for service account {service_account}")


@click.command(context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False})
@click.option("--service", required=True, help="Service that the command is a workload of.")
@click.option("--version", default="v1", show_default=True, help="Its version.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    required=True,
    help="Where the command listens on loopback; 0 when it only calls.",
)
@click.option("--namespace", "-n", default="default", show_default=True, help="Namespace of the workload.")
@click.option(
    "--service-account", default="default", show_default=True, help="Service account, as in the token."
)
@click.option("--name", default="", help="Name of the workload. [default: <service>-<version>]")
@click.option("--node", default="", help="Name of the sidecar's node. [default: sidecar-<host>-<workload>]")
@click.option(
    "--address",
    default="127.0.0.1",
    show_default=True,
    help="Address of this machine on which proxies of the mesh reach this one.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the join token. [default: $RAY_MESH_JOIN_TOKEN]",
)
@click.option(
    "--api", default="", help="API of the mesh. [default: that of `ray-mesh --api`, else the state file's]"
)
@click.option(
    "--ca-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Root certificate of the mesh, PEM, for an API of https. [default: the state file's]",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def sidecar(
    context: click.Context,
    service: str,
    version: str,
    port: int,
    namespace: str,
    service_account: str,
    name: str,
    node: str,
    address: str,
    token_file: Path | None,
    api: str,
    ca_file: Path | None,
    command: tuple[str, ...],
) -> int:
    """Run COMMAND in the mesh, outside Ray, with a proxy beside it.

    Its http_proxy and no_proxy are set; signals go to it, and its exit code is this command's.
    """
    import logging

    from ray_mesh.sidecar import run

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    api = api or context.obj["api"]
    root_pem = _read(ca_file, "the root certificate") if ca_file else ""
    if not api:
        state = chosen_state(context)
        api, root_pem = state.api, root_pem or state.root_pem
    options = run.SidecarOptions(
        command=command,
        api=api,
        root_pem=root_pem,
        service=service,
        version=version,
        port=port,
        namespace=namespace,
        service_account=service_account,
        node=node or _node(name or f"{service}-{version}"),
        address=address,
        name=name,
        token=_token(token_file),
    )
    return run.main(options, say)


def _token(path: Path | None) -> str:
    from ray_mesh.sidecar.run import TOKEN_VARIABLE

    found = _read(path, "the join token") if path else os.environ.get(TOKEN_VARIABLE, "")
    if not found.strip():
        raise ConfigError(
            f"a sidecar needs a join token, in ${TOKEN_VARIABLE} or --token-file:"
            " an admin makes one with `ray-mesh token create`"
        )
    return found.strip()


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {what} in {path}: {error}") from error


def _node(workload: str) -> str:
    raw = f"sidecar-{socket.gethostname()}-{workload}"
    return re.sub(r"[^A-Za-z0-9_-]", "-", raw)[:NODE_LENGTH]
