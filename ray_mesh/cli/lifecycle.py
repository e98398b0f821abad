"""Commands that start and end a mesh: up, down, demo."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ray_mesh.cli.connection import chosen_path, chosen_state, connect
from ray_mesh.cli.output import say
from ray_mesh.errors import Unavailable

if TYPE_CHECKING:
    from ray_mesh.launch import LaunchOptions
    from ray_mesh.own_nats import NatsChoice


class PortPair(click.ParamType[tuple[int, int]]):
    """``NUMBER`` or ``NUMBER:PORT``: a port number of Gateway documents, and the port that is bound."""

    name = "number[:port]"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        number, _, port = str(value).partition(":")
        try:
            pair = int(number), int(port or 0)
        except ValueError:
            self.fail(f"{value!r} is not NUMBER or NUMBER:PORT, such as 8080 or 8080:18080", param, ctx)
        if not (1 <= pair[0] <= 65535 and 0 <= pair[1] <= 65535):
            self.fail(f"{value!r}: ports are 1 to 65535 (0 after the colon means any free one)", param, ctx)
        return pair


@click.command()
@click.option("--name", default="default", show_default=True, help="Name of the mesh on this machine.")
@click.option(
    "--state-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where programs find the mesh. [default: --state, else by name]",
)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keeps keys and configuration over restarts. [default: a folder that ends with the mesh]",
)
@click.option(
    "--replicas",
    type=click.IntRange(1, 16),
    help="Instances of each control role. [default: 1, or as many as run]",
)
@click.option(
    "--proxies", type=click.IntRange(1, 64), help="Proxies per node. [default: 2, or as many as run]"
)
@click.option(
    "--svid-ttl",
    "svid_ttl_s",
    type=click.IntRange(10, 86400),
    default=3600,
    show_default=True,
    metavar="SECONDS",
    help="Life of workload certificates; they are renewed at half of it.",
)
@click.option(
    "--api-port", type=click.IntRange(0, 65535), default=0, help="Port of the API. [default: any free one]"
)
@click.option(
    "--api-address",
    default="127.0.0.1",
    show_default=True,
    metavar="IP",
    help="Where the API listens; 0.0.0.0 is everywhere. Off loopback it is served over TLS.",
)
@click.option(
    "--api-name",
    "api_names",
    multiple=True,
    metavar="NAME",
    help="DNS name or IP that clients call the API by besides; may be repeated.",
)
@click.option(
    "--ingress",
    type=PortPair(),
    multiple=True,
    default=((8080, 0),),
    show_default="8080",
    help="Port number of Gateway documents, and the local port to bind; may be repeated.",
)
@click.option(
    "--address", default="", help="An existing Ray cluster. [default: $RAY_ADDRESS, else a Ray of its own]"
)
@click.option(
    "--nats",
    "nats_url",
    metavar="URL",
    help="Use this NATS (tls://host:port, several with commas) instead of a broker of the mesh's own.",
)
@click.option(
    "--nats-creds",
    "--nats-nkey",
    "nats_creds",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Private file with its credential: .creds, NKEY seed, user:password or token. "
    "[default: $RAY_MESH_NATS_CREDS]",
)
@click.option(
    "--nats-proxy-creds",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The same for proxies, in an account of their own. [default: $RAY_MESH_NATS_PROXY_CREDS]",
)
@click.option(
    "--nats-ca",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="CA of its certificate, PEM. [default: the CAs of this machine]",
)
@click.option(
    "--nats-replicas",
    type=click.IntRange(1, 5),
    help="How many of its servers keep each bucket. [default: 3 on a cluster, else 1]",
)
@click.option(
    "--detach",
    is_flag=True,
    help="Return when the mesh serves, and leave it running. Always so on a cluster.",
)
@click.pass_context
def up(
    context: click.Context,
    name: str,
    state_file: Path | None,
    state_dir: Path | None,
    replicas: int | None,
    proxies: int | None,
    svid_ttl_s: int,
    api_port: int,
    api_address: str,
    api_names: tuple[str, ...],
    ingress: tuple[tuple[int, int], ...],
    address: str,
    nats_url: str | None,
    nats_creds: Path | None,
    nats_proxy_creds: Path | None,
    nats_ca: Path | None,
    nats_replicas: int | None,
    detach: bool,
) -> int:
    """Start a mesh and run it until Ctrl-C or `ray-mesh down`.

    On a Ray cluster the mesh is put there and this command returns. If the mesh runs already, nothing is
    started again; --replicas and --proxies change how many of a cluster's mesh run.
    """
    from ray_mesh import foreground, launch
    from ray_mesh.gateway.listening import ApiAddress
    from ray_mesh.own_nats import NatsChoice
    from ray_mesh.sdk.state import default_path

    if nats_url is None and (nats_creds or nats_proxy_creds or nats_ca or nats_replicas):
        raise click.UsageError("--nats-creds and the like go with --nats URL")

    chosen = state_file or context.obj["state"] or default_path("" if name == "default" else name)
    options = launch.LaunchOptions(
        name=name,
        replicas=replicas,
        proxies=proxies,
        svid_ttl_s=svid_ttl_s,
        api=ApiAddress(api_address, api_names),
        api_port=api_port,
        ingress=ingress,
        state_dir=state_dir.absolute() if state_dir else None,
        state_file=Path(chosen).absolute(),
        address=address,
    )
    if nats_url is not None:
        choice = NatsChoice(
            url=nats_url,
            credentials=_absolute(nats_creds),
            proxy_credentials=_absolute(nats_proxy_creds),
            ca_file=_absolute(nats_ca),
            replicas=nats_replicas or 0,
        )
        options = replace(options, nats=choice)
    if detach:
        return foreground.run_detached(options, _arguments(options), say)
    return foreground.run_foreground(options, say)


def _arguments(options: LaunchOptions) -> list[str]:
    """The arguments of ``up`` that make these options again, for a process of its own."""
    pairs: list[tuple[str, object]] = [
        ("--name", options.name),
        ("--replicas", options.replicas),
        ("--proxies", options.proxies),
        ("--svid-ttl", options.svid_ttl_s),
        ("--api-address", options.api.host),
        *(("--api-name", name) for name in options.api.names),
        ("--api-port", options.api_port),
        ("--state-file", options.state_file),
        *(("--ingress", f"{number}:{port}") for number, port in options.ingress),
        ("--state-dir", options.state_dir),
        *_nats_pairs(options.nats),
    ]
    return [text for name, value in pairs if value is not None for text in (name, str(value))]


def _absolute(path: Path | None) -> Path | None:
    return path.absolute() if path else None


def _nats_pairs(nats: NatsChoice | None) -> list[tuple[str, object]]:
    """Paths only: what came by the environment goes on by it."""
    if nats is None:
        return []
    return [
        ("--nats", nats.url),
        ("--nats-creds", nats.credentials),
        ("--nats-proxy-creds", nats.proxy_credentials),
        ("--nats-ca", nats.ca_file),
        ("--nats-replicas", nats.replicas or None),
    ]


@click.command()
@click.pass_context
def down(context: click.Context) -> None:
    """End the mesh and wait until its process is gone."""
    from ray_mesh.sdk.client import is_running
    from ray_mesh.sdk.state import read_state, remove_state

    path = chosen_path(context)
    state = read_state(path)
    try:
        with connect(context) as mesh:
            mesh.down(timeout_s=context.obj["timeout_s"])
    except Unavailable as error:
        if is_running(state.pid):
            raise Unavailable(f"{error}. Its process is {state.pid}: `kill {state.pid}` ends it") from error
        say("the mesh was not running any more")
    remove_state(path, state.pid)
    say(f"mesh {state.name} is down")


@click.command()
@click.option(
    "--duration",
    "duration_s",
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    help="How long traffic flows. [default: until Ctrl-C]",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="A live table, or one JSON object at the end.",
)
@click.option("--replicas", type=click.IntRange(1, 16), help="Instances of each control role. [default: 1]")
@click.option("--proxies", type=click.IntRange(1, 64), help="Proxies per node. [default: 2]")
@click.option(
    "--rate", type=click.FloatRange(min=0.1), default=20.0, show_default=True, help="Page views per second."
)
@click.option(
    "--attach", is_flag=True, help="Use the mesh that runs, and take Bookinfo out of it at the end."
)
@click.option(
    "--address", default="", help="Ray cluster of the mesh, with --attach. [default: $RAY_ADDRESS, else auto]"
)
@click.pass_context
def demo(
    context: click.Context,
    duration_s: float | None,
    output: Literal["table", "json"],
    replicas: int | None,
    proxies: int | None,
    rate: float,
    attach: bool,
    address: str,
) -> int:
    """Run Bookinfo with traffic, and show what the mesh sees of it.

    Unless --attach is given, in a mesh and a Ray of its own.
    """
    from ray_mesh.demo import run

    if attach and (replicas or proxies):
        raise click.UsageError("--replicas and --proxies are for a mesh of the demo's own, not for --attach")
    if address and not attach:
        raise click.UsageError("--address goes with --attach: without it the demo has a Ray of its own")
    mesh = partial(run.own_mesh, replicas=replicas or 1, proxies=proxies or 2)
    if attach:
        mesh = partial(run.attached_mesh, state=chosen_state(context), address=address)
    return run.main(mesh, duration_s, output, rate)
