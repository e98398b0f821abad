"""What happens to the mesh while it is soaked: changes ten times a second, new certificates each second,
applications that end and come back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

from proxy_mesh import free_port, host_of
from soak_tcp import SHAKY_TCP, STEADY_TCP, apply_tcp
from soak_world import SHAKY, STEADY, World

from ray_mesh import snapshot

CHANGE_S = 0.1
ROTATE_S = 1.0
RESTART_S = 2.0
ANYBODY = snapshot.Policy("default/anybody", "ALLOW", (snapshot.Rule(),))


class Trouble:
    """Runs until cancelled. Nothing that it does to the steady service may cost a request."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._random = random.Random(seed)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        for every_s, step in ((CHANGE_S, self._change), (ROTATE_S, self._rotate), (RESTART_S, self._restart)):
            self._tasks.append(asyncio.create_task(self._repeat(every_s, step)))

    async def stop(self) -> None:
        """End; raises what a step raised."""
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
                raise outcome

    async def _repeat(self, every_s: float, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(every_s)
            await step()
            self._world.tally[f"trouble: {step.__name__.strip('_')}"] += 1

    async def _change(self) -> None:
        """Endpoints, routes, policies, or a workload that comes or goes."""
        mesh, choose = self._world.mesh, self._random.choice
        service = choose((STEADY, SHAKY))
        what = choose(("endpoints", "routes", "policies", "visitor", "tcp endpoints", "tcp policies"))
        if what == "visitor":
            plane = mesh.planes["one"]
            if "workload.default.visitor" in plane.resources():
                plane.apply("workload.default.visitor", None)
            else:
                await mesh.workload("visitor", free_port(), node="one", with_identity=False)
                plane.set_identity("workload.default.visitor", mesh.svid("visitor"))
        elif what == "tcp endpoints":
            apply_tcp(self._world, choose((STEADY_TCP, SHAKY_TCP)), choose(((0, 1), (0,), (1,))))
        elif what in ("policies", "tcp policies"):
            if what == "tcp policies":
                service = choose((STEADY_TCP, SHAKY_TCP))
            name = f"{service}-{choose((0, 1))}"
            policies = choose(((), (ANYBODY,)))
            workload = replace(mesh.workloads[name], policies=policies)
            mesh.planes["two"].apply(f"workload.default.{name}", workload)
        else:
            numbers = choose(((0, 1), (1, 0), (0,), (1,)))
            endpoints = [mesh.endpoint(f"{service}-{number}") for number in numbers]
            if service == SHAKY:
                endpoints = [mesh.endpoint(f"{service}-{number}") for number in (0, 1)]
            timeout_s = choose((0.0, 30.0, 45.0))
            match = snapshot.RequestMatch(uri=snapshot.StringMatch("prefix", choose(("/soak", "/never"))))
            to = (snapshot.Destination(host_of(service)),)
            routes = (
                snapshot.Route("first", "", (match,), to, timeout_s=timeout_s),
                snapshot.Route("rest", "", (), to),
            )
            mesh.service(service, endpoints, routes=routes if what == "routes" else routes[1:])

    async def _rotate(self) -> None:
        """New certificates for every workload; sometimes the bundles are set again, too."""
        mesh = self._world.mesh
        if self._random.random() < 0.2:
            for plane in mesh.planes.values():
                plane.set_bundles(mesh.bundles)
        for name, workload in mesh.workloads.items():
            plane = mesh.planes[workload.node]
            if f"workload.default.{name}" in plane.resources():
                plane.set_identity(f"workload.default.{name}", mesh.svid(name))

    async def _restart(self) -> None:
        """One application of a shaky service ends, its connections with it, and comes back."""
        world, number = self._world, self._random.choice((0, 1))
        app = self._random.choice((world.apps[f"{SHAKY}-{number}"], world.ports[f"{SHAKY_TCP}-{number}"]))
        port = app.port
        await app.stop()
        await asyncio.sleep(0.2)
        await app.start(port)
