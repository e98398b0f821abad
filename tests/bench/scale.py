"""How the work of RoutingActors and TelemetryActors divides: ``python tests/bench/scale.py [--quick]``.

Replicas are processes on a real broker. What is compared is the CPU time of the *busiest* replica for one
piece of work, with 2 and with 4 of them, to that of a single one. A machine has fewer processors
than replicas, so wall time would tell of the machine. Each piece of work is checked to be done, once.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import Popen

from bench_cpu import Sample, wait_until_calm
from bench_process import ask, process, program, read_line
from bench_rows import CALM_CORES, Figure, Round, Row, figure, render_json, table

from ray_mesh import snapshot
from ray_mesh.actors.secrets import StateDir
from ray_mesh.bus import messages, subjects
from ray_mesh.bus.client import Bus, Message
from ray_mesh.bus.credentials import BrokerAddress, Credential
from ray_mesh.bus.permissions import Permissions, permissions
from ray_mesh.bus.server import BrokerOptions, BrokerServer
from ray_mesh.bus.store import MAX_BATCH, Store, Write, ensure_buckets
from ray_mesh.compile import split_key
from ray_mesh.gateway.desired import PURPOSE
from ray_mesh.gateway.listening import ApiAddress
from ray_mesh.membership import HEARTBEAT_S
from ray_mesh.resources import Document, load
from ray_mesh.security.signing import SigningKey
from ray_mesh.telemetry.histogram import ExpHistogram
from ray_mesh.telemetry.merge import INTERVAL_S
from ray_mesh.telemetry.series import Edge, Series

HALVED = {2: 0.8, 4: 0.6}
READ_BY_ALL = {2: 1.1, 4: 1.0}
"""Every replica reads every document; only what is made of them divides."""
UNIT = "ms CPU, busiest replica"
PATIENCE_S = 120.0
DRIVER = "bench"
REQUESTS = 40
"""What each edge carries between two reports."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How much work a round is, and how many rounds are measured."""

    rounds: int
    services: int
    proxies: int
    series: int
    reports: int


QUICK = Pace(rounds=3, services=300, proxies=32, series=200, reports=4)
FULL = Pace(rounds=5, services=600, proxies=48, series=200, reports=8)


class Bench:
    """A broker with empty buckets, and who was let in."""

    def __init__(self, folder: Path) -> None:
        self.state_dir = StateDir(folder)
        self.state_dir.create("mesh.local", ["127.0.0.1"], ApiAddress())
        broker = self.state_dir.broker
        self.server = BrokerServer(
            BrokerOptions(broker / "store", broker / "server.crt", broker / "server.key")
        )
        self._users: dict[str, Permissions] = {}

    async def admit(self, public: str, allowed: Permissions) -> None:
        """Let a credential in."""
        await self.admit_all({public: allowed})

    async def admit_all(self, users: Mapping[str, Permissions]) -> None:
        """Let many in at once."""
        self._users.update(users)
        if self.server.pid:
            await self.server.set_users(self._users)
        else:
            await self.server.start(self._users)

    async def restart(self) -> None:
        """Start the broker again after it died."""
        await self.server.start(self._users)

    async def connect(self, role: str, allowed: Permissions) -> Bus:
        """A connection of the bench's own."""
        credential = Credential.generate()
        await self.admit(credential.public, allowed)
        return await Bus.connect(self.address, role, DRIVER, credential)

    @property
    def address(self) -> BrokerAddress:
        """Where the broker is."""
        return BrokerAddress(self.server.url, self.state_dir.root_pem())


@dataclass(slots=True)
class Replicas:
    """The running replicas of one role, and a driver's connection to the same broker."""

    bench: Bench
    names: tuple[str, ...]
    pids: tuple[int, ...]
    gateway: Bus
    through: dict[str, tuple[int, tuple[str, ...]]]
    written: Counter[str]

    async def compiled(self, revision: int) -> None:
        """Return when the shards, being of one mind about who they are, are through."""
        await until(
            lambda: all(
                through >= revision and members == self.names
                for through, members in (self.through.get(name, (0, ())) for name in self.names)
            )
        )


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def replicas(role: str, count: int) -> AsyncIterator[Replicas]:
    """Start a broker and ``count`` replicas of a role; end them afterwards."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        bench = Bench(Path(folder) / "state")
        stack.push_async_callback(bench.server.stop)
        controller = await bench.connect("controller", permissions("controller", DRIVER))
        stack.push_async_callback(controller.close)
        await ensure_buckets(controller)
        gateway = await bench.connect("gateway", permissions("gateway", DRIVER))
        stack.push_async_callback(gateway.close)
        through: dict[str, tuple[int, tuple[str, ...]]] = {}
        written: Counter[str] = Counter()

        def heard(message: Message) -> None:
            beacon = messages.decode(messages.Beacon, message.data)
            through[beacon.shard] = (beacon.through, beacon.members)
            written.update(snapshot.kind_of(split_key(key)[1]) for key in beacon.changed)

        await gateway.subscribe(subjects.every("beacon"), heard)
        names = tuple(f"{role}-{number}" for number in range(count))
        children = [stack.enter_context(_replica(bench, role, name)) for name in names]
        for name, child in zip(names, children, strict=True):
            await bench.admit(read_line(child), permissions(role, name))
        await asyncio.gather(*(asyncio.to_thread(ask, child, "start") for child in children))
        yield Replicas(bench, names, tuple(child.pid for child in children), gateway, through, written)


def _replica(bench: Bench, role: str, name: str) -> AbstractContextManager[Popen[str]]:
    settings = {"role": role, "instance": name, "folder": str(bench.state_dir.path), "url": bench.server.url}
    return process(program("scale_replica.py", json.dumps(settings)), None)


async def measured(fleet: Replicas, rounds: int, work: Callable[[int], Awaitable[None]]) -> Figure:
    """CPU milliseconds that the busiest replica needs for one piece of work."""
    taken = []
    for number in range(rounds):
        await asyncio.to_thread(wait_until_calm, CALM_CORES, 1.0)
        before = Sample.take(fleet.pids)
        await work(number)
        after = Sample.take(fleet.pids)
        busiest = max(after.cpu_ns[pid] - before.cpu_ns[pid] for pid in fleet.pids)
        taken.append(Round(busiest / 1e6, before.unrelated_cores(after)))
    return figure(taken)


class Desk:
    """Writes signed documents as admission does, in sets as large as the store takes."""

    def __init__(self, store: Store, signing: SigningKey) -> None:
        self._store = store
        self._signing = signing

    async def put(self, documents: Sequence[Document]) -> int:
        """Store them; returns the revision."""
        revision = 0
        for start in range(0, len(documents), MAX_BATCH):
            revision = await self._store.apply(
                [self._write(one) for one in documents[start : start + MAX_BATCH]]
            )
        return revision

    def _write(self, document: Document) -> Write:
        value = messages.encode(messages.Desired(document.key, document.json, 1.0, DRIVER, DRIVER))
        return Write(document.key, value, self._signing.sign(PURPOSE, value))


def services(count: int) -> list[Document]:
    """So many services with a workload each."""
    return load(
        "\n---\n".join(
            f"""
apiVersion: v1
kind: Service
metadata: {{name: s{number}}}
spec: {{selector: {{app: s{number}}}, ports: [{{name: http, port: 80}}]}}
---
apiVersion: mesh.ray.io/v1
kind: Workload
metadata: {{name: s{number}-v1, labels: {{app: s{number}, version: v1}}}}
spec: {{serviceAccount: s{number}, node: n1, port: 7000, outboundPort: 7001, tokenSha256: "{"ab" * 32}"}}"""
            for number in range(count)
        ),
        "services",
    )


def policy(number: int) -> list[Document]:
    """A policy that holds for every workload."""
    return load(
        f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: everywhere, namespace: mesh-system}}
spec:
  action: DENY
  rules: [{{to: [{{operation: {{paths: ["/private-{number}/*"]}}}}]}}]
""",
        "policy",
    )


def routes(count: int, number: int) -> list[Document]:
    """A VirtualService for each service."""
    return load(
        "\n---\n".join(
            f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: s{one}}}
spec:
  hosts: [s{one}]
  http:
  - match: [{{uri: {{prefix: /v{number}}}}}]
    timeout: 2s
    route: [{{destination: {{host: s{one}}}}}]
  - route: [{{destination: {{host: s{one}}}}}]"""
            for one in range(count)
        ),
        "routes",
    )


async def compiling(count: int, pace: Pace, change: Callable[[int], list[Document]]) -> Figure:
    """One change that touches everything, compiled and stored by ``count`` RoutingActors."""
    async with replicas("routing", count) as fleet:
        signing = fleet.bench.state_dir.signing_key("admission")
        desk = Desk(Store(fleet.gateway, subjects.DESIRED_BUCKET), signing)
        await fleet.compiled(await desk.put(services(pace.services)))
        await fleet.compiled(await desk.put(change(-1)))

        async def work(number: int) -> None:
            await fleet.compiled(await desk.put(change(number)))

        return await measured(fleet, pace.rounds, work)


async def placing(count: int, pace: Pace) -> Figure:
    """A node with all workloads that stops to serve them, and serves them again."""
    async with replicas("routing", count) as fleet:
        signing = fleet.bench.state_dir.signing_key("admission")
        desk = Desk(Store(fleet.gateway, subjects.DESIRED_BUCKET), signing)
        await fleet.compiled(await desk.put(services(pace.services)))
        edge = Permissions((subjects.lease("p1"),), (f"{subjects.inbox('proxy', DRIVER)}.>",), "edge")
        proxy = await fleet.bench.connect("proxy", edge)
        served = tuple(f"workload.default.s{number}-v1" for number in range(pace.services))

        async def work(number: int) -> None:
            ready = () if number % 2 else served
            lease = messages.ProxyLease(
                "p1", "e", "n1", "127.0.0.1", 7443, "0", "HEALTHY", ready, {}, (), 1, 0.0
            )
            goal = fleet.written["endpoints"] + pace.services
            async with asyncio.timeout(PATIENCE_S):
                while fleet.written["endpoints"] < goal:
                    proxy.publish(subjects.lease("p1"), messages.encode(lease))
                    await asyncio.sleep(HEARTBEAT_S)

        await work(0)
        try:
            return await measured(fleet, pace.rounds, lambda number: work(number + 1))
        finally:
            await proxy.close()


def totals(size: int, requests: int) -> tuple[Series, ...]:
    """What the proxy of one of many copies of a caller has counted: ``size`` edges, so many requests each."""
    once = ExpHistogram()
    for milliseconds in range(1, REQUESTS + 1):
        once.add(milliseconds / 1000)
    each = once.snapshot()
    times = requests // REQUESTS
    counts = tuple((index, count * times) for index, count in each.counts)
    durations = replace(each, counts=counts, total=each.total * times)
    return tuple(
        Series(
            Edge(
                "source",
                "default/caller-v1",
                "caller",
                "v1",
                "spiffe://mesh.local/ns/default/sa/caller",
                f"s{number}.default.svc.cluster.local",
                f"default/s{number}-v1",
                f"s{number}",
                "v1",
                f"spiffe://mesh.local/ns/default/sa/s{number}",
                "default",
                "http",
                200,
                "",
                "mutual_tls",
            ),
            requests,
            0,
            0,
            durations,
        )
        for number in range(size)
    )


async def collecting(count: int, pace: Pace) -> Figure:
    """Reports of all proxies, merged by ``count`` TelemetryActors, each proxy by one of them."""
    async with replicas("telemetry", count) as fleet:
        edge = Permissions((subjects.every("telemetry"),), (f"{subjects.inbox('proxy', DRIVER)}.>",), "edge")
        proxies = await fleet.bench.connect("proxy", edge)
        sequence = itertools.count(1)

        async def report() -> bool:
            """A second's reports; whether afterwards the replicas together know just what was reported."""
            number = next(sequence)
            series = totals(pace.series, number * REQUESTS)
            for proxy in range(pace.proxies):
                one = messages.TelemetryReport(f"p{proxy}", "e", number, 0, 1, time.time(), series)
                proxies.publish(subjects.telemetry(one.proxy), messages.encode(one))
            await proxies.flush()
            await asyncio.sleep(INTERVAL_S)
            return await counted(fleet) == number * REQUESTS * pace.proxies * pace.series

        async def work(_: int) -> None:
            done = 0
            async with asyncio.timeout(PATIENCE_S):
                while not await report() or done + 1 < pace.reports:
                    done += 1

        try:
            async with asyncio.timeout(PATIENCE_S):
                while not await report() or not all(one.proxies for one in await answers(fleet)):
                    pass
            return await measured(fleet, pace.rounds, work)
        finally:
            await proxies.close()


async def counted(fleet: Replicas) -> int:
    """The requests that all replicas together know of."""
    return sum(series.requests for answer in await answers(fleet) for series in answer.series)


async def answers(fleet: Replicas) -> list[messages.EdgesReply]:
    """What each replica answers."""
    question = messages.encode(messages.EdgesRequest(0.0))
    replies = await asyncio.gather(
        *(fleet.gateway.request(subjects.query(name), question, 10.0) for name in fleet.names)
    )
    return [messages.decode(messages.EdgesReply, reply.data) for reply in replies]


Case = tuple[str, dict[int, float], Callable[[int], Coroutine[None, None, Figure]]]


def cases(pace: Pace) -> list[Case]:
    """What is measured, the bar for each number of replicas, and how."""
    return [
        (
            f"routing: a policy for all of {pace.services} workloads",
            HALVED,
            lambda count: compiling(count, pace, policy),
        ),
        (f"routing: endpoints of {pace.services} services", HALVED, lambda count: placing(count, pace)),
        (
            f"routing: {pace.services} changed documents",
            READ_BY_ALL,
            lambda count: compiling(count, pace, lambda number: routes(pace.services, number)),
        ),
        (
            f"telemetry: {pace.reports} reports of {pace.proxies} proxies, {pace.series} edges each",
            HALVED,
            lambda count: collecting(count, pace),
        ),
    ]


def main(arguments: list[str]) -> int:
    """Measure; the exit code says whether it ran, with ``--strict`` also whether every bar was met."""
    parser = argparse.ArgumentParser(prog="scale", description="how the control roles' work divides")
    parser.add_argument("--quick", action="store_true", help="less work and fewer rounds")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a bar is not met")
    options = parser.parse_args(arguments)
    rows = []
    for case, bars, run in cases(QUICK if options.quick else FULL):
        alone = asyncio.run(run(1))
        for count, bar in bars.items():
            several = asyncio.run(run(count))
            rows.append(Row(f"{case}, {count} replicas", UNIT, several, "1 replica", alone, bar))
    print(render_json(rows) if options.output == "json" else table(rows))
    return 1 if options.strict and not all(row.is_met for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
