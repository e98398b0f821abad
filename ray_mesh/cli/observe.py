"""Commands that look: status, proxies, wait, graph, events, observe, version."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from ray_mesh import __version__
from ray_mesh.cli.connection import connect
from ray_mesh.cli.output import Format, output_option, render, say, show
from ray_mesh.errors import Unavailable

if TYPE_CHECKING:
    from ray_mesh.sdk.answers import Proxy, Status


@click.command()
@output_option
@click.pass_context
def status(context: click.Context, form: Format) -> None:
    """Show actors and proxies, and what is wrong. Exits with 1 when something is."""
    with connect(context) as mesh:
        found = mesh.status()
    show(found, form, lambda: _status(found))
    for warning in found.warnings:
        say(f"warning: {warning}")
    for problem in found.problems:
        say(f"problem: {problem}")
    if found.problems:
        context.exit(1)


@click.command()
@output_option
@click.pass_context
def proxies(context: click.Context, form: Format) -> None:
    """Show live proxies: SYNCED, STALE or REJECTED, and why."""
    with connect(context) as mesh:
        found = mesh.proxies()
    rows = [_proxy(one) for one in found]
    header = (
        "PROXY",
        "NODE",
        "STATE",
        "VERSION",
        "SYNC",
        "WORKLOADS",
        "INBOUND",
        "ADMIN",
        "SVID LEFT",
        "REASON",
    )
    show(found, form, lambda: render(header, rows))
    if not found:
        say("no live proxy")


@click.command()
@click.option("--revision", type=click.IntRange(min=0), required=True, help="As printed by apply.")
@click.pass_context
def wait(context: click.Context, revision: int) -> None:
    """Return when every live proxy has applied a revision (within --timeout)."""
    with connect(context) as mesh:
        mesh.wait(revision, timeout_s=context.obj["timeout_s"])
    say(f"revision {revision} is applied by every live proxy")


@click.command()
@click.option(
    "--window",
    "window_s",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How far to look back; 0 is everything.",
)
@output_option
@click.pass_context
def graph(context: click.Context, window_s: float, form: Format) -> None:
    """Show who calls whom, how often, how fast and how well."""
    with connect(context) as mesh:
        found = mesh.graph(window_s)
    show(found.to_json(), form, found.to_text)
    for name in found.missing:
        say(f"warning: telemetry collector {name} did not answer: its proxies' traffic is not in here")
    if not found.edges:
        say(f"no traffic in the last {window_s:g} s" if window_s else "no traffic yet")


@click.command()
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many of the newest."
)
@output_option
@click.pass_context
def events(context: click.Context, limit: int, form: Format) -> None:
    """Show what the parts of the mesh reported, oldest first."""
    with connect(context) as mesh:
        found = mesh.events(limit)
    rows = [(_clock(one.at), one.severity, one.source, one.reason, one.subject, one.message) for one in found]
    show(found, form, lambda: render(("AT", "SEVERITY", "SOURCE", "REASON", "ABOUT", "MESSAGE"), rows))


@click.command()
@output_option
@click.pass_context
def version(context: click.Context, form: Format) -> None:
    """Show the version of this command and of the running mesh, if there is one."""
    mesh_version = ""
    try:
        with connect(context) as mesh:
            mesh_version = mesh.version()
    except Unavailable as error:
        say(str(error))
    versions = {"client": __version__, "mesh": mesh_version}
    show(versions, form, lambda: f"client  {__version__}\nmesh    {mesh_version or '-'}")


def _status(found: Status) -> str:
    rows = [(one.role, one.name, one.node, one.state, one.pid, one.restarts) for one in found.actors]
    summary = [
        f"version    {found.version}",
        f"revision   {found.revision}",
        f"nodes      {', '.join(found.nodes) or '-'}",
        f"proxies    {found.synced} of {found.proxies} in sync",
    ]
    table = render(("ROLE", "NAME", "NODE", "STATE", "PID", "RESTARTS"), rows)
    return "\n".join([*summary, "", table]).rstrip()


def _proxy(one: Proxy) -> tuple[object, ...]:
    left_s = one.svid_expires_at - time.time()
    left = f"{left_s / 60:.0f} min" if left_s > 120 else f"{max(0.0, left_s):.0f} s"
    return (
        one.proxy,
        one.node,
        one.state,
        one.version,
        _sync(one),
        len(one.ready),
        f"{one.address}:{one.inbound_port}",
        f"127.0.0.1:{one.admin_port}" if one.admin_port else "-",
        left,
        one.reason,
    )


def _sync(one: Proxy) -> str:
    if one.sync == "SYNCED":
        return one.sync
    changes = f" {one.behind} change{'s' * (one.behind != 1)}" if one.behind else ""
    return f"{one.sync}{changes} {one.behind_s:.0f} s"


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")[:-3] + "Z"


@click.command()
@click.argument("name")
@click.option(
    "--seed",
    "seed_file",
    type=click.Path(dir_okay=False),
    required=True,
    metavar="FILE",
    help="Where to write the client's key (mode 0600).",
)
@click.pass_context
def observe(context: click.Context, name: str, seed_file: str) -> None:
    """Admit a NATS client that may read telemetry and events (see docs/wire.md)."""
    with connect(context) as mesh:
        inbox = mesh.observe(name, seed_file)
        broker = mesh.state.broker
    click.echo(f"{broker.url} {broker.ca_pem_path} {seed_file} --inbox {inbox}")
    say("these are the arguments of docs/examples/nats_subscriber.py")
