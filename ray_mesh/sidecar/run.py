"""The life of a sidecar: join, attest, serve, attach, run the command, and all of it backwards.

Once the command runs, the mesh's control plane may go away: the proxy keeps its configuration and its
certificates, and serves until they expire. Only issuing, renewing and changing need it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ray_mesh.agent.proxy import AgentSettings, ProxyAgent, ProxyKeys
from ray_mesh.errors import MeshError
from ray_mesh.proxy.vitals import freeze
from ray_mesh.sdk.attachment import Ticket
from ray_mesh.sidecar import command, joining

log = logging.getLogger(__name__)

DRAIN_S = 2.0
TOKEN_VARIABLE = "RAY_MESH_JOIN_TOKEN"  # noqa: S105 - the name of a variable


@dataclass(frozen=True, slots=True)
class SidecarOptions:
    """What ``ray-mesh sidecar`` takes. ``address`` is where other proxies reach this one; ``port`` is
    where the command listens on loopback, 0 when it only calls, ``protocol`` what it speaks there (empty: as
    its Services say); ``root_pem`` verifies an ``api`` of https.
    ``probe`` is a readiness probe as in a WorkloadGroup."""

    command: tuple[str, ...]
    api: str
    service: str
    version: str
    port: int
    namespace: str
    service_account: str
    node: str
    address: str
    name: str = ""
    protocol: str = ""
    weight: int = 1
    locality: str = ""
    probe: Mapping[str, Any] = field(default_factory=dict)
    root_pem: str = ""
    token: str = field(default="", repr=False)


def main(options: SidecarOptions, say: Callable[[str], None]) -> int:
    """Run a sidecar to the end of its command; returns the command's exit code.

    Raises:
        MeshError: it could not join; nothing was started.
    """
    command.find(options.command)
    return asyncio.run(_run(options, say))


async def _run(options: SidecarOptions, say: Callable[[str], None]) -> int:
    child = command.Command(options.command)
    work = asyncio.create_task(_work(options, child, say), name="sidecar")
    ended_by = 0

    def heard(number: signal.Signals) -> None:
        nonlocal ended_by
        if child.is_running:
            child.signal(number)
        elif number in command.ENDING and not ended_by:
            ended_by = number
            work.cancel()

    with _signals(heard):
        try:
            return await work
        except asyncio.CancelledError:
            return 128 + ended_by


@contextlib.contextmanager
def _signals(heard: Callable[[signal.Signals], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in command.FORWARDED:
        loop.add_signal_handler(number, heard, number)
    try:
        yield
    finally:
        for number in command.FORWARDED:
            loop.remove_signal_handler(number)


async def _work(options: SidecarOptions, child: command.Command, say: Callable[[str], None]) -> int:
    async with _proxy(options) as session, _workload(options, session) as ticket:
        say(f"sidecar {ticket.node}: {ticket.workload} is in the mesh; starting {options.command[0]}")
        return await child.run(_environment(ticket))


@contextlib.asynccontextmanager
async def _proxy(options: SidecarOptions) -> AsyncIterator[joining.Session]:
    """A proxy that serves; drained, and taken out of the mesh, at the end."""
    keys = ProxyKeys()
    account = f"{options.namespace}/{options.service_account}"
    joined = await joining.join(options.api, options.token, account, options.node, keys, options.root_pem)
    session = joining.Session(options.api, joined.session, options.root_pem)
    agent = ProxyAgent(
        AgentSettings(
            name=joined.proxy,
            node=options.node,
            address=options.address,
            trust_domain=joined.trust_domain,
            root_der=joined.root_der,
            compiled_public=joined.compiled_public,
            commands=_commands(options.probe),
        ),
        keys,
    )
    try:
        await session.attest(await agent.attest(joined.broker, joined.letter))
        await agent.serve()
        freeze()
        yield session
        await agent.drain(DRAIN_S)
    finally:
        await agent.stop()
        await _try("leave the mesh", session.leave)
        await session.close()


@contextlib.asynccontextmanager
async def _workload(options: SidecarOptions, session: joining.Session) -> AsyncIterator[Ticket]:
    more = {
        "name": options.name,
        "protocol": options.protocol,
        "weight": options.weight,
        "locality": options.locality,
        "probe": dict(options.probe),
    }
    ticket = await session.attach(options.namespace, options.service, options.version, options.port, more)
    try:
        yield ticket
    finally:
        await _try("detach the workload", session.detach)


def _commands(probe: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """What the proxy may run: only what this command line named."""
    return (tuple(probe["exec"]["command"]),) if "exec" in probe else ()


async def _try(what: str, step: Callable[[], Awaitable[None]]) -> None:
    """Ending goes on whatever of the mesh is still there; what is left is removed by its lease."""
    try:
        await step()
    except MeshError as error:
        log.warning("could not %s: %s", what, error)


def _environment(ticket: Ticket) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
    return inherited | ticket.env()
