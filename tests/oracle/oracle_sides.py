"""The same requests through our gateway and through Envoy: same routes, same application behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import oracle_envoy
from oracle_app import LAST, Fields, Recorder, Seen, multimap
from proxy_mesh import Client, Mesh, free_port, host_of, running_mesh

from ray_mesh import snapshot

PATIENCE_S = 3.0
"""For an answer; one that does not come is an outcome as well."""
Paths = Literal["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"]
APP, DEAD = host_of("app"), host_of("dead")
TO_APP = (snapshot.Destination(APP),)
EVERYTHING = (snapshot.Route("all", "", (), TO_APP),)


@dataclass(frozen=True)
class Outcome:
    """What came of the bytes that one client sent on one connection."""

    statuses: tuple[int, ...]
    fields: tuple[Fields, ...]
    bodies: tuple[bytes, ...]
    is_closed: bool
    seen: tuple[Seen, ...]

    @property
    def is_refused(self) -> bool:
        """Whether the application saw none of it."""
        return not self.seen


@dataclass
class Side:
    """One proxy and what is behind it."""

    name: str
    port: int
    recorder: Recorder

    async def play(self, sent: bytes, answers: int = 1, settles: bool = False) -> Outcome:
        """Send bytes on a new connection and read so many answers, or until it is closed; ``settles``
        waits for what was hidden in them."""
        before = len(self.recorder.seen)
        client = await Client.connect(self.port)
        got = []
        is_closed = False
        try:
            await client.send(sent)
            async with asyncio.timeout(PATIENCE_S):
                for _ in range(answers):
                    got.append(await client.answer())
        except (asyncio.IncompleteReadError, ConnectionError):
            is_closed = True
        except TimeoutError:
            pass
        finally:
            await client.close()
        if settles:
            await self._settle()
        closes = bool(got) and got[-1].field("connection") == "close"
        return Outcome(
            tuple(one.status for one in got),
            tuple(multimap(one.fields) for one in got),
            tuple(one.body for one in got),
            is_closed or closes,
            tuple(self.recorder.seen[before:]),
        )

    async def _settle(self) -> None:
        client = await Client.connect(self.port)
        await client.send(f"GET {LAST} HTTP/1.1\r\nHost: shop\r\n\r\n".encode())
        await client.answer()
        await client.close()


@contextlib.asynccontextmanager
async def sides(
    folder: Path, routes: tuple[snapshot.Route, ...] = EVERYTHING, paths: Paths = "BASE"
) -> AsyncIterator[tuple[Side, Side]]:
    """Ours and Envoy; without routes everything goes to the application."""
    async with running_mesh(("one",)) as mesh:
        ours = Side("ours", 0, Recorder())
        theirs = Side("envoy", free_port(), Recorder())
        for side in (ours, theirs):
            await side.recorder.app.start()
            mesh.apps.append(side.recorder.app)
        ours.port = await gateway(mesh, ours.recorder.app.port, routes, paths)
        dead = free_port()
        config = oracle_envoy.configure(
            theirs.port, theirs.recorder.app.port, tuple(map(_renamed, routes)), paths, dead
        )
        async with oracle_envoy.running(config, folder, theirs.port):
            yield ours, theirs


def _renamed(route: snapshot.Route) -> snapshot.Route:
    """With the names that clusters have in the other configuration."""
    destinations = tuple(replace(one, host=one.host.partition(".")[0]) for one in route.destinations)
    return replace(route, destinations=destinations)


async def gateway(
    mesh: Mesh, app_port: int, routes: tuple[snapshot.Route, ...] = EVERYTHING, paths: Paths = "BASE"
) -> int:
    """A gateway on node one before an application without proxy; its port."""
    bound = free_port()
    plane = mesh.planes["one"]
    if paths != "BASE":
        settings = snapshot.Mesh("mesh.local", "mesh-system", path_normalization=paths)
        plane.apply(snapshot.MESH_KEY, settings)
    await mesh.workload("edge", free_port(), node="one", gateway_ports=((80, bound),))
    for host, port in ((APP, app_port), (DEAD, free_port())):
        name = host.partition(".")[0]
        service = snapshot.Service(
            host, "default", name, (snapshot.Port(80, "http"),), (), (), plaintext=True
        )
        endpoint = snapshot.Endpoint(
            f"default/{name}", "127.0.0.1", port, "", "", (), "one", transport="plaintext"
        )
        plane.apply(snapshot.key_for("service", host), service)
        plane.apply(snapshot.key_for("endpoints", host), snapshot.Endpoints(host, (endpoint,)))
    servers = (snapshot.GatewayServer(80, (snapshot.VirtualHost(("*",), routes),)),)
    plane.apply("gateway.default.edge", snapshot.Gateway("default", "edge", servers))
    return bound
