"""A mesh without data plane: a real broker, control roles as processes, and many simulated proxies."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryDirectory
from typing import Any

from bench_process import ask, process, program, read_line
from config_proxies import raise_limit
from scale import DRIVER, PATIENCE_S, Bench, Desk, until

from ray_mesh.bus import messages, subjects
from ray_mesh.bus.client import Bus, Message
from ray_mesh.bus.permissions import Permissions, permissions
from ray_mesh.bus.store import Store, ensure_buckets
from ray_mesh.resources import Document, load

PROBE = "probe.default.svc.cluster.local"
"""The service that all proxies follow."""
PROBE_NODE = "probe-node"
PER_NODE = 10
"""Workloads that the proxy of a node serves."""
LEASE_S = 1.0


class Role:
    """One control role as a process."""

    def __init__(self, role: str, name: str, child: Popen[str]) -> None:
        self.role = role
        self.name = name
        self.child = child

    @property
    def pid(self) -> int:
        """Its process."""
        return self.child.pid


class Workers:
    """Processes full of simulated proxies."""

    def __init__(self, children: Sequence[Popen[str]], proxies: int) -> None:
        self.proxies = proxies
        self.pids = [child.pid for child in children]
        self._children = children

    async def ask(self, verb: str, argument: object = None) -> list[dict[str, Any]]:
        """What each process answers."""
        question = json.dumps({verb: argument})
        answers = await asyncio.gather(*(asyncio.to_thread(ask, one, question) for one in self._children))
        return [json.loads(answer) for answer in answers]

    async def applied(self, mark: str) -> float:
        """When the last proxy had applied what carries a mark (monotonic seconds).

        Raises:
            RuntimeError: not all have, in a minute.
        """
        answers = await self.ask("applied", mark)
        missing = sum(one["missing"] for one in answers)
        if missing:
            raise RuntimeError(f"{missing} of {self.proxies} proxies have not applied {mark} in a minute")
        times: list[float] = [at for one in answers for at in one["times"]]
        return max(times)


class Nodes:
    """The leases of the nodes that serve the mesh's workloads: those of the proxies beside them.

    They have ``applied`` these beacons: a shard that hears of a proxy that has none of its own repeats them.
    """

    def __init__(self, bus: Bus, applied: dict[str, int]) -> None:
        self._bus = bus
        self._applied = applied
        self._leases: dict[str, messages.ProxyLease] = {}
        self._task = asyncio.create_task(self._beat())

    def set(self, node: str, ready: tuple[str, ...], port: int = 7000) -> None:
        """Say what a node serves now."""
        self._leases[node] = messages.ProxyLease(
            node, "e", node, "127.0.0.1", port, "0", "HEALTHY", ready, self._applied, (), 1, 0.0
        )
        self._publish(self._leases[node])

    def ready(self, node: str) -> tuple[str, ...]:
        """What a node serves."""
        return self._leases[node].ready

    def stop(self) -> None:
        """Say nothing more."""
        self._task.cancel()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(LEASE_S)
            for lease in self._leases.values():
                self._publish(lease)

    def _publish(self, lease: messages.ProxyLease) -> None:
        self._bus.publish(subjects.lease(lease.proxy), messages.encode(lease))


class Site:
    """What is running."""

    def __init__(self, bench: Bench, stack: AsyncExitStack) -> None:
        self.bench = bench
        self.through: dict[str, int] = {}
        self.members: dict[str, tuple[str, ...]] = {}
        self.numbers: dict[str, int] = {}
        self.roles: list[Role] = []
        self.workers: list[Workers] = []
        self.changes = 0
        self._stack = stack
        self._names = 0

    async def open(self) -> None:
        """Start the broker, make the buckets, connect."""
        self.controller = await self._connect("controller", permissions("controller", DRIVER))
        await ensure_buckets(self.controller)
        self.gateway = await self._connect("gateway", permissions("gateway", DRIVER))
        edge = Permissions((subjects.every("lease"),), (f"{subjects.inbox('proxy', DRIVER)}.>",), "edge")
        self.nodes = Nodes(await self._connect("proxy", edge), self.numbers)
        self._stack.callback(self.nodes.stop)
        self.desk = Desk(
            Store(self.gateway, subjects.DESIRED_BUCKET), self.bench.state_dir.signing_key("admission")
        )
        await self.gateway.subscribe(subjects.every("beacon"), self._heard_beacon)

    async def _connect(self, role: str, allowed: Permissions) -> Bus:
        bus = await self.bench.connect(role, allowed)
        self._stack.push_async_callback(bus.close, 0.0)
        return bus

    def _heard_beacon(self, message: Message) -> None:
        beacon = messages.decode(messages.Beacon, message.data)
        self.through[beacon.shard] = beacon.through
        self.members[beacon.shard] = beacon.members
        self.numbers[beacon.shard] = beacon.number

    async def start_role(self, role: str) -> Role:
        """Start one control role."""
        self._names += 1
        name = f"{role}-{self._names}"
        settings = {
            "role": role,
            "instance": name,
            "folder": str(self.bench.state_dir.path),
            "url": self.bench.server.url,
        }
        child = self._stack.enter_context(process(program("scale_replica.py", json.dumps(settings)), None))
        await self.bench.admit(await asyncio.to_thread(read_line, child), permissions(role, name))
        await asyncio.to_thread(ask, child, "start")
        started = Role(role, name, child)
        self.roles.append(started)
        return started

    def kill_roles(self) -> None:
        """End all control roles as a power cut would."""
        roles, self.roles = self.roles, []
        for role in roles:
            role.child.kill()
            role.child.wait()
        self.forget()

    def forget(self) -> None:
        """What shards said is of no use any more."""
        self.through.clear()
        self.members.clear()
        self.numbers.clear()

    async def start_proxies(
        self, hosts: Sequence[Sequence[str]], processes: int, *, with_plane: bool = False
    ) -> Workers:
        """Start one simulated proxy per list of hosts that it follows."""
        children, names = [], []
        for hosts_of_one in _divided(hosts, processes):
            own = [f"p{self._names}-{number}" for number in range(len(hosts_of_one))]
            self._names += 1
            settings = {
                "names": own,
                "hosts": hosts_of_one,
                "compiled_public": self.bench.state_dir.signing_key("compiled").public.hex(),
                "url": self.bench.server.url,
                "ca_pem": self.bench.state_dir.root_pem(),
                "with_plane": with_plane,
            }
            child = self._stack.enter_context(process(program("config_proxies.py"), None))
            assert child.stdin is not None
            child.stdin.write(json.dumps(settings) + "\n")
            child.stdin.flush()
            children.append(child)
            names.append(own)
        users: dict[str, Permissions] = {}
        for child, own in zip(children, names, strict=True):
            publics = json.loads(await asyncio.to_thread(read_line, child))["publics"]
            for public, name in zip(publics, own, strict=True):
                users[public] = permissions("proxy", name, node=name)
        await self.bench.admit_all(users)
        await asyncio.gather(*(asyncio.to_thread(ask, child, "start") for child in children))
        workers = Workers(children, len(users))
        self.workers.append(workers)
        return workers

    async def fill(self, services: int) -> None:
        """Services with a route and a workload each, and the service that all follow; all are served."""
        documents = [*_services(services), *_probe()]
        revision = await self.desk.put(documents)
        for number in range(0, services, PER_NODE):
            keys = [workload_key(one) for one in range(number, min(services, number + PER_NODE))]
            self.nodes.set(node_of(number), tuple(keys))
        self.nodes.set(PROBE_NODE, ("workload.default.probe",))
        await self.compiled(revision)

    async def compiled(self, revision: int) -> None:
        """Return when the routing shards are through."""
        await until(lambda: bool(self.through) and min(self.through.values()) >= revision)

    async def change_route(self) -> tuple[str, float]:
        """Give the probe's route another name; returns the mark and when it was handed to the store."""
        self.changes += 1
        mark = f"change-{self.changes}"
        at = time.monotonic()
        await self.desk.put(_route("probe", mark))
        return mark, at

    def change_endpoint(self) -> tuple[str, float]:
        """Move the probe's endpoint to another port; returns the mark and when its node said so."""
        self.changes += 1
        port = 10_000 + self.changes
        self.nodes.set(PROBE_NODE, ("workload.default.probe",), port)
        return f"port-{port}", time.monotonic()

    async def heads(self) -> tuple[int, int]:
        """How many writes the compiled buckets have seen."""
        return (
            await Store(self.controller, subjects.SHARED_BUCKET).head(),
            await Store(self.controller, subjects.PRIVATE_BUCKET).head(),
        )


@asynccontextmanager
async def site(services: int, roles: Sequence[str] = ("routing",)) -> AsyncIterator[Site]:
    """A broker, control roles and a filled mesh; all ended afterwards."""
    raise_limit()
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        bench = Bench(Path(folder) / "state")
        stack.push_async_callback(bench.server.stop)
        made = Site(bench, stack)
        async with asyncio.timeout(PATIENCE_S):
            await made.open()
            for role in roles:
                await made.start_role(role)
            await made.fill(services)
        yield made


def host_of(number: int) -> str:
    """The host of a service."""
    return f"s{number}.default.svc.cluster.local"


def workload_key(number: int) -> str:
    """The workload behind a service."""
    return f"workload.default.s{number}"


def node_of(number: int) -> str:
    """Where it runs."""
    return f"n{number // PER_NODE}"


def _divided(hosts: Sequence[Sequence[str]], processes: int) -> Iterator[list[list[str]]]:
    size = -(-len(hosts) // processes)
    for start in range(0, len(hosts), size):
        yield [list(one) for one in hosts[start : start + size]]


def _services(count: int) -> list[Document]:
    return [found for one in range(count) for found in load(_service(f"s{one}", node_of(one)), "services")]


def _probe() -> list[Document]:
    return [*load(_service("probe", PROBE_NODE), "probe"), *_route("probe", "change-0")]


def _service(name: str, node: str) -> str:
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 80}}]}}
---
apiVersion: mesh.ray.io/v1
kind: Workload
metadata: {{name: {name}, labels: {{app: {name}, version: v1}}}}
spec: {{serviceAccount: {name}, node: {node}, port: 7000, outboundPort: 7001, tokenSha256: "{"ab" * 32}"}}"""


def _route(host: str, name: str) -> list[Document]:
    return load(
        f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {host}}}
spec:
  hosts: [{host}]
  http:
  - name: {name}
    match: [{{uri: {{prefix: /v2}}}}]
    timeout: 2s
    route: [{{destination: {{host: {host}}}}}]
  - route: [{{destination: {{host: {host}}}}}]""",
        "route",
    )
