"""Simulated proxies: many in a process, each with its own connection, following with the code of real ones.

Takes settings as JSON, prints the public halves of its credentials, connects when it reads a line, then
answers one JSON question a line. What a real proxy has and these lack is the data plane.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import logging
import resource
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop

from ray_mesh import snapshot
from ray_mesh.agent.config import ConfigSync
from ray_mesh.agent.heartbeat import Heartbeat
from ray_mesh.bus import messages
from ray_mesh.bus.client import Bus
from ray_mesh.bus.credentials import BrokerAddress, Credential
from ray_mesh.proxy.plane import DataPlane, PlaneConfig
from ray_mesh.security.signing import VerifyKey

CONNECTING = 6
"""Connections that are made at a time."""


class Applied:
    """Which proxy of this process has applied what, and when the last one had."""

    def __init__(self, proxies: int) -> None:
        self.held: list[dict[str, snapshot.Resource]] = [{} for _ in range(proxies)]
        self.at: dict[str, list[float]] = defaultdict(list)
        self.heard = asyncio.Event()

    def note(self, proxy: int, key: str, resource_: snapshot.Resource | None) -> None:
        if resource_ is None:
            self.held[proxy].pop(key, None)
        else:
            self.held[proxy][key] = resource_
            times = self.at[mark_of(resource_)]
            times.append(time.monotonic())
            if len(times) >= len(self.held):
                self.heard.set()

    async def by_all(self, mark: str, patience_s: float) -> list[float]:
        """When each proxy had applied what carries a mark; fewer when patience has run out."""
        try:
            async with asyncio.timeout(patience_s):
                while len(self.at[mark]) < len(self.held):
                    self.heard.clear()
                    await self.heard.wait()
        except TimeoutError:
            pass
        times = self.at.pop(mark)
        self.at.clear()
        return times


def mark_of(resource_: snapshot.Resource) -> str:
    """What a change is recognized by: the name of the first route, the port of the last endpoint."""
    match resource_:
        case snapshot.Service(routes=(first, *_)):
            return first.name
        case snapshot.Endpoints(endpoints=(*_, last)):
            return f"port-{last.port}"
    return ""


class Simulated:
    """One proxy."""

    def __init__(self, number: int, name: str, applied: Applied, compiled_public: bytes) -> None:
        self.name = name
        self.credential = Credential.generate()
        self.rejected = 0
        self._number = number
        self._applied = applied
        self._verify = VerifyKey(compiled_public)
        self._beating: asyncio.Task[None] | None = None
        self._plane: DataPlane | None = None

    async def start(self, address: BrokerAddress, hosts: list[str], with_plane: bool) -> None:
        if with_plane:
            self._plane = DataPlane(PlaneConfig(self.name, self.name, "mesh.local", "127.0.0.1"))
        self.bus = await Bus.connect(address, "proxy", self.name, self.credential, timeout_s=300.0)
        self.heartbeat = Heartbeat(self.bus, self._lease)
        self.sync = ConfigSync(
            self.bus,
            self.name,
            self._verify,
            apply=self._apply,
            unknown=self._unknown,
            changed=self.heartbeat.acknowledge,
            assigned=_nothing,
            report=self._report,
        )
        await self.sync.start()
        for host in hosts:
            self.sync.want(host)

    def beat(self, on: bool) -> None:
        """Begin or end to send leases."""
        if on and self._beating is None:
            self._beating = asyncio.create_task(self.heartbeat.run())
        elif not on and self._beating is not None:
            self._beating.cancel()
            self._beating = None

    async def stop(self) -> None:
        self.beat(False)
        await self.sync.stop()
        await self.bus.close(flush_s=0)

    async def _apply(self, key: str, resource_: snapshot.Resource | None) -> None:
        if self._plane is not None:
            self._plane.apply(key, resource_)
        self._applied.note(self._number, key, resource_)

    async def _unknown(self, host: str) -> None:
        print(f"{self.name}: {host} is unknown", file=sys.stderr)

    def _report(self, reason: str, message: str) -> None:
        self.rejected += reason not in ("unavailable",)

    async def _lease(self) -> messages.ProxyLease:
        return messages.ProxyLease(
            self.name, "e", self.name, "127.0.0.1", 7000, "0", "HEALTHY", (), dict(self.sync.applied),
            tuple(self.sync.rejected.values()), 1, 0.0,
        )  # fmt: skip


def _nothing() -> None:
    """Nobody is assigned workloads here."""


class Worker:
    """The proxies of this process, and the answers to what is asked about them."""

    def __init__(
        self, names: list[str], hosts: list[list[str]], compiled_public: str, with_plane: bool
    ) -> None:
        self._applied = Applied(len(names))
        public = bytes.fromhex(compiled_public)
        self._hosts = hosts
        self._with_plane = with_plane
        self.proxies = [Simulated(number, name, self._applied, public) for number, name in enumerate(names)]

    async def start(self, address: BrokerAddress) -> None:
        """Connect all, and return when each holds what it follows."""
        gate = asyncio.Semaphore(CONNECTING)

        async def one(proxy: Simulated, hosts: list[str]) -> None:
            async with gate:
                await proxy.start(address, hosts, self._with_plane)

        await asyncio.gather(*map(one, self.proxies, self._hosts))
        while any(
            len(held) < 2 * len(hosts) for held, hosts in zip(self._applied.held, self._hosts, strict=True)
        ):
            await asyncio.sleep(0.05)
        self._applied.at.clear()
        gc.collect()
        gc.freeze()

    async def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer one question; its only key says which."""
        ((verb, argument),) = question.items()
        match verb:
            case "applied":
                times = await self._applied.by_all(argument, 60.0)
                return {"times": times, "missing": len(self.proxies) - len(times)}
            case "leases":
                for proxy in self.proxies:
                    proxy.beat(argument)
                return {}
            case "figures":
                return self._figures()
            case "held":
                return {"held": self._held()}
            case "memory":
                gc.unfreeze()
                gc.collect()
                return {"private_kb": private_kb()}
        raise ValueError(verb)

    def _figures(self) -> dict[str, Any]:
        return {
            "cpu_s": time.process_time(),
            "leases": sum(proxy.heartbeat.sent for proxy in self.proxies),
            "acknowledged": sum(proxy.heartbeat.acknowledged for proxy in self.proxies),
            "refused": sum(proxy.rejected for proxy in self.proxies),
        }

    def _held(self) -> dict[str, dict[str, int]]:
        """For each key how many proxies hold which bytes."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        digests: dict[int, str] = {}
        for held in self._applied.held:
            for key, one in held.items():
                digest = digests.setdefault(id(one), hashlib.sha256(snapshot.encode(one)).hexdigest())
                counts[key][digest] += 1
        return {key: dict(one) for key, one in counts.items()}


def private_kb() -> int:
    """Memory that belongs to this process alone."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def raise_limit() -> None:
    """A connection is a file."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def main(
    names: list[str],
    hosts: list[list[str]],
    compiled_public: str,
    url: str,
    ca_pem: str,
    with_plane: bool,
) -> None:
    """Be these proxies until standard input ends."""
    raise_limit()
    logging.disable(logging.WARNING)
    worker = Worker(names, hosts, compiled_public, with_plane)
    say(publics=[proxy.credential.public for proxy in worker.proxies])
    read: Callable[[], str] = sys.stdin.readline
    await asyncio.to_thread(read)
    await worker.start(BrokerAddress(url, ca_pem))
    say(ready=len(names))
    while line := await asyncio.to_thread(read):
        say(**await worker.answer(json.loads(line)))
    await asyncio.gather(*(proxy.stop() for proxy in worker.proxies))


def say(**answer: Any) -> None:
    """Print one answer."""
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    uvloop.run(main(**json.loads(sys.stdin.readline())))
