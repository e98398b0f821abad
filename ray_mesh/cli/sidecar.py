"""Commands for programs outside Ray: sidecar, and the tokens that admit them."""

from __future__ import annotations

import os
import re
import shlex
import socket
from pathlib import Path
from typing import Any

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
@click.option(
    "--protocol",
    type=click.Choice(["http", "http2", "grpc"]),
    default=None,
    help="What it speaks there; http2 and grpc in cleartext. [default: as its Services say, else http]",
)
@click.option("--namespace", "-n", default="default", show_default=True, help="Namespace of the workload.")
@click.option(
    "--service-account", default="default", show_default=True, help="Service account, as in the token."
)
@click.option("--name", default="", help="Name of the workload. [default: <service>-<version>]")
@click.option("--node", default="", help="Name of the sidecar's node. [default: sidecar-<host>-<workload>]")
@click.option(
    "--weight",
    type=click.IntRange(1, 10_000),
    default=1,
    show_default=True,
    help="Its share among the endpoints of the service.",
)
@click.option("--locality", default="", metavar="REGION/ZONE/SUBZONE", help="Where it is.")
@click.option("--probe-http", default="", metavar="[PORT]/PATH", help="Serve it while a GET gets 200 to 399.")
@click.option(
    "--probe-tcp",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Serve it while a port takes connections.",
)
@click.option(
    "--probe-grpc",
    default="",
    metavar="[PORT]/[SERVICE]",
    help="Serve it while its gRPC health service says that it (or one of its services) serves.",
)
@click.option("--probe-command", default="", metavar="TEXT", help="Serve it while this command ends with 0.")
@click.option(
    "--probe-period",
    type=click.IntRange(1, 3600),
    default=10,
    show_default=True,
    metavar="SECONDS",
    help="Between probes; one may take a second, three that fail in a row count.",
)
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
    protocol: str | None,
    namespace: str,
    service_account: str,
    name: str,
    node: str,
    weight: int,
    locality: str,
    probe_http: str,
    probe_tcp: int | None,
    probe_grpc: str,
    probe_command: str,
    probe_period: int,
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
        protocol=protocol or "",
        weight=weight,
        locality=locality,
        probe=_probe(probe_http, probe_tcp, probe_grpc, probe_command, probe_period, port),
        token=_token(token_file),
    )
    return run.main(options, say)


def _probe(http: str, tcp: int | None, grpc: str, command: str, period_s: int, port: int) -> dict[str, Any]:
    """The readiness probe that the options ask for; empty without one."""
    ways: dict[str, Any] = {}
    if http:
        number, path = _port_and_more("--probe-http", http, port, "a path, such as /healthz or 8081/healthz")
        ways["httpGet"] = {"path": f"/{path}", "port": number}
    if grpc:
        number, service = _port_and_more("--probe-grpc", grpc, port, "/, 8081/ or 8081/my.Service")
        ways["grpc"] = {"service": service, "port": number}
    if tcp:
        ways["tcpSocket"] = {"port": tcp}
    if command:
        try:
            ways["exec"] = {"command": shlex.split(command)}
        except ValueError as error:
            raise click.UsageError(f"--probe-command {command!r}: {error}") from error
    if len(ways) > 1:
        raise click.UsageError("use one of --probe-http, --probe-tcp, --probe-grpc and --probe-command")
    return {**ways, "periodSeconds": period_s} if ways else {}


def _port_and_more(option: str, text: str, port: int, expected: str) -> tuple[int, str]:
    number, slash, more = text.partition("/")
    if not slash or not (number.isdecimal() or not number) or not (number or port):
        raise click.UsageError(f"{option} {text!r}: write {expected}")
    return int(number or port), more


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
