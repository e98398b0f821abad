"""Commands that start and end a mesh: up, down, demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ray_mesh.cli.connection import connect
from ray_mesh.cli.output import say
from ray_mesh.errors import Unavailable

if TYPE_CHECKING:
    from ray_mesh.launch import LaunchOptions


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
    default=1,
    show_default=True,
    help="Instances of each control role.",
)
@click.option("--proxies", type=click.IntRange(1, 64), default=2, show_default=True, help="Proxies per node.")
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
@click.option("--detach", is_flag=True, help="Leave a process behind that runs the mesh.")
@click.pass_context
def up(
    context: click.Context,
    name: str,
    state_file: Path | None,
    state_dir: Path | None,
    replicas: int,
    proxies: int,
    svid_ttl_s: int,
    api_port: int,
    ingress: tuple[tuple[int, int], ...],
    address: str,
    detach: bool,
) -> int:
    """Start a mesh and run it until Ctrl-C or `ray-mesh down`."""
    from ray_mesh import launch
    from ray_mesh.sdk.state import default_path

    chosen = state_file or context.obj["state"] or default_path("" if name == "default" else name)
    options = launch.LaunchOptions(
        name=name,
        replicas=replicas,
        proxies=proxies,
        svid_ttl_s=svid_ttl_s,
        api_port=api_port,
        ingress=ingress,
        state_dir=state_dir.absolute() if state_dir else None,
        state_file=Path(chosen).absolute(),
        address=address,
    )
    if detach:
        return launch.run_detached(options, _arguments(options), say)
    return launch.run_foreground(options, say)


def _arguments(options: LaunchOptions) -> list[str]:
    """The arguments of ``up`` that make these options again, for a process of its own."""
    pairs = [
        ("--name", options.name),
        ("--replicas", options.replicas),
        ("--proxies", options.proxies),
        ("--svid-ttl", options.svid_ttl_s),
        ("--api-port", options.api_port),
        ("--state-file", options.state_file),
        *(("--ingress", f"{number}:{port}") for number, port in options.ingress),
    ]
    if options.state_dir:
        pairs.append(("--state-dir", options.state_dir))
    if options.address:
        pairs.append(("--address", options.address))
    return [text for name, value in pairs for text in (name, str(value))]


@click.command()
@click.pass_context
def down(context: click.Context) -> None:
    """End the mesh and wait until its process is gone."""
    from ray_mesh.sdk.client import is_running
    from ray_mesh.sdk.state import default_path, read_state, remove_state

    path = Path(context.obj["state"] or default_path())
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
@click.option(
    "--replicas",
    type=click.IntRange(1, 16),
    default=1,
    show_default=True,
    help="Instances of each control role.",
)
@click.option("--proxies", type=click.IntRange(1, 64), default=2, show_default=True, help="Proxies per node.")
@click.option(
    "--rate", type=click.FloatRange(min=0.1), default=20.0, show_default=True, help="Page views per second."
)
def demo(duration_s: float | None, output: str, replicas: int, proxies: int, rate: float) -> int:
    """Run Bookinfo in a mesh of its own, with traffic, and show what the mesh sees of it."""
    from ray_mesh.demo import run

    return run.main(duration_s, "json" if output == "json" else "table", replicas, proxies, rate)
