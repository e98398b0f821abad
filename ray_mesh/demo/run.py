"""``ray-mesh demo``: Bookinfo on a mesh of its own or on a running one, traffic through the ingress, a
live table.

All that it started ends with this process: when the duration is over, at Ctrl-C, or at SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Literal

from ray_mesh.demo.load import Load
from ray_mesh.demo.outcome import Outcome
from ray_mesh.demo.screen import Screen
from ray_mesh.errors import ConfigError, MeshError
from ray_mesh.sdk.state import MeshState

if TYPE_CHECKING:
    from ray_mesh.sdk.graph import Graph

Output = Literal["table", "json"]

INGRESS_PORT = 8080
"""The port number of Bookinfo's Gateway document."""

READY_DEADLINE_S = 60.0
REDRAW_S = 1.0
WINDOW_S = 10.0
REPORT_S = 1.1
"""A little more than the proxies' reporting period."""

SETTLE_S = 6.0
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Stage:
    """A mesh for Bookinfo. One that ``goes_on`` is left as it was found."""

    state: MeshState
    goes_on: bool


def main(
    mesh: Callable[[Screen], AbstractContextManager[Stage]],
    duration_s: float | None = None,
    output: Output = "table",
    rate: float = 20.0,
) -> int:
    """Run the demo for ``duration_s`` of traffic (None: until it is interrupted), ``rate`` views a second.

    ``mesh`` is :func:`own_mesh` or :func:`attached_mesh` with its options. Returns 0 when no view failed
    and all requests between workloads were mutual TLS, 1 when not, and 130 when it was interrupted before
    its time. Without a duration an interrupt is the way it ends: then failed views alone decide. With
    ``output`` "json" stdout gets one JSON object at the end and nothing else.

    Raises:
        MeshError: the mesh or Bookinfo did not come up; the message says what did not.
    """
    outcome = Outcome()
    stdout = sys.stdout
    with contextlib.redirect_stdout(sys.stderr if output == "json" else stdout):
        screen = Screen(sys.stdout)
        started_at = time.monotonic()
        try:
            with _terminate_as_interrupt(), mesh(screen) as stage, _terminate_as_interrupt():
                asyncio.run(Show(stage, outcome, screen, started_at).run(duration_s, rate))
        except KeyboardInterrupt:
            if duration_s is not None or not outcome.tally.requests:
                return INTERRUPTED
            return 1 if outcome.tally.failures else 0
    if output == "json":
        print(json.dumps(outcome.to_json()), file=stdout)
    return 0 if outcome.is_good else 1


@contextlib.contextmanager
def own_mesh(screen: Screen, replicas: int, proxies: int) -> Iterator[Stage]:
    """A mesh with a Ray of its own, that ends with the demo."""
    from ray_mesh.launch import LaunchOptions, start

    screen.say("starting Ray and the mesh ...")
    running = start(
        LaunchOptions(name="demo", replicas=replicas, proxies=proxies, ingress=((INGRESS_PORT, 0),))
    )
    try:
        screen.say(f"mesh         RAY_MESH_STATE={running.state_file}")
        yield Stage(running.state, goes_on=False)
    finally:
        with _undisturbed():
            running.stop()


@contextlib.contextmanager
def attached_mesh(screen: Screen, state: MeshState, address: str) -> Iterator[Stage]:
    """A mesh that runs and goes on; Bookinfo is put on the Ray cluster at ``address`` and taken away again.

    Raises:
        ConfigError: the mesh has no ingress for Bookinfo's Gateway.
        Unavailable: there is no such Ray cluster.
    """
    import ray

    from ray_mesh import cluster

    if str(INGRESS_PORT) not in state.ingress:
        raise ConfigError(
            f"mesh {state.name} has no ingress for port {INGRESS_PORT} of Gateway documents: "
            f"start it with --ingress {INGRESS_PORT}"
        )
    screen.say(f"attaching to mesh {state.name} at {state.api} ...")
    cluster.join(cluster.address_of(address) or "auto")
    try:
        yield Stage(state, goes_on=True)
    finally:
        ray.shutdown()


class Show:
    """Bookinfo on a running mesh, its load, and what is shown of it."""

    def __init__(self, stage: Stage, outcome: Outcome, screen: Screen, started_at: float) -> None:
        from ray_mesh.demo.deployment import Deployment
        from ray_mesh.sdk import AsyncMesh

        state = stage.state
        self._mesh = AsyncMesh(state)
        self._deployment = Deployment(self._mesh)
        self._goes_on = stage.goes_on
        self._outcome = outcome
        self._screen = screen
        self._started_at = started_at
        self._ingress = state.ingress[str(INGRESS_PORT)].rstrip("/")
        outcome.urls = {"productpage": f"{self._ingress}/productpage", "api": state.api}

    async def run(self, duration_s: float | None, rate: float) -> None:
        """Deploy, load for ``duration_s`` (None: until cancelled), and leave the outcome filled in."""
        load = Load(self._ingress, rate)
        self._outcome.tally = load.tally
        try:
            await self._deploy(load)
            drawing = asyncio.create_task(self._draw())
            try:
                await load.run(duration_s)
            finally:
                drawing.cancel()
                self._screen.finish(self._outcome.summary())
            await self._settle()
            self._screen.say(f"{self._outcome.summary()}, mutual TLS {self._outcome.mtls:.0%}")
        finally:
            await load.close()
            if self._goes_on:
                self._screen.say("taking Bookinfo out of the mesh ...")
                await self._deployment.stop()
            await self._mesh.close()

    async def _deploy(self, load: Load) -> None:
        self._screen.say("starting Bookinfo ...")
        revision = await self._deployment.start()
        await self._mesh.wait(revision, timeout_s=READY_DEADLINE_S)
        await load.open(READY_DEADLINE_S)
        self._outcome.first_request_s = time.monotonic() - self._started_at
        for name, url in self._outcome.urls.items():
            self._screen.say(f"{name:12} {url}")
        self._screen.say(f"up in {self._outcome.first_request_s:.1f} s; Ctrl-C ends it")

    async def _draw(self) -> None:
        while True:
            table = "no telemetry yet"
            try:
                graph = await self._mesh.graph(WINDOW_S)
                table = graph.to_text()
            except MeshError as error:
                table = f"telemetry: {error}"
            self._screen.draw(self._outcome.summary(), table)
            await asyncio.sleep(REDRAW_S)

    async def _settle(self) -> None:
        """Read the totals once both sides of every edge have reported all of it."""
        give_up_at = time.monotonic() + SETTLE_S
        before: Graph | None = None
        while True:
            now = await self._mesh.graph(0.0)
            self._outcome.edges = now.edges
            same = before is not None and _counts(before) == _counts(now)
            if (same and self._outcome.mtls == 1.0) or time.monotonic() > give_up_at:
                return
            before = now
            await asyncio.sleep(REPORT_S)


def _counts(graph: Graph) -> dict[tuple[str, str, str], int]:
    return {(edge.source, edge.service, edge.destination): edge.requests for edge in graph.edges}


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM does what Ctrl-C does.

    Connecting to Ray puts a handler of its own before ours, which prints a stack and sets an alarm that
    aborts the process after 3 s. So the alarm is taken back, and this is entered again after connecting.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.alarm(0)
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C must not leave half of the mesh behind."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
