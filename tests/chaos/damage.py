"""Breaking a part of a mesh under traffic, and what it cost.

A figure of a case is printed as one JSON line (pytest -s), which is where docs/failures.md has them from.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

import psutil
from mesh_site import Site, eventually

from ray_mesh.demo.load import Tally
from ray_mesh.errors import MeshError
from ray_mesh.sdk import Mesh
from ray_mesh.sdk.answers import Actor, Event

RECOVERED_WITHIN_S = 60.0
"""A guard against never, on a machine that is busy with other things; docs/failures.md has figures."""

RATE = 15.0
PATIENCE_S = 30.0
"""Of the crowd: a machine that is busy with starting five actors answers late, which is no failure."""


@dataclass(slots=True)
class Case:
    """One failure: traffic while it lasted, and the seconds to each milestone that was noted."""

    name: str
    tally: Tally
    began_at: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)

    def note(self, milestone: str) -> None:
        """The seconds from the beginning of the failure until now."""
        self.seconds[milestone] = round(time.monotonic() - self.began_at, 1)

    def more_requests(self, count: int = 25) -> None:
        """Wait until so many requests more have ended."""
        seen = self.tally.requests
        eventually(lambda: self.tally.requests >= seen + count, timeout_s=RECOVERED_WITHIN_S)


@contextmanager
def under_traffic(site: Site, name: str) -> Iterator[Case]:
    """Page views while the block runs; prints what they came to."""
    with site.traffic(RATE, PATIENCE_S) as tally:
        case = Case(name, tally)
        case.more_requests()
        case.began_at, began_at = time.monotonic(), time.time()
        try:
            yield case
        finally:
            for event in events(site) if tally.failures else ():
                if event.at >= began_at and event.severity != "info":
                    print(f"  {event.at - began_at:.1f} {event.source} {event.reason}: {event.message[:160]}")
            figures = {"case": name, "requests": tally.requests, "failed": tally.failures, **case.seconds}
            print(json.dumps(figures))
            if tally.failures:
                print(json.dumps({"problems": tally.problems}))


def is_whole(case: Case) -> bool:
    """Whether 50 page views in a row did not fail."""
    failures = case.tally.failures
    case.more_requests(50)
    return case.tally.failures == failures


def teach(site: Site) -> None:
    """Have every proxy know every service of Bookinfo, by requests on connections of their own.

    A proxy learns of a service by the first request for it, which it cannot while the broker is away.
    """
    ticket = site.mesh.attach("teacher", "v1", 0, name="teacher")
    try:
        site.mesh.wait(ticket.revision, timeout_s=30.0)
        opener = build_opener(ProxyHandler({"http": ticket.http_proxy}))
        for host in ("productpage", "details", "reviews", "ratings"):
            for _ in range(16):
                with suppress(HTTPError), opener.open(f"http://{host}:9080/health", timeout=10.0) as response:
                    response.read()
    finally:
        site.mesh.detach("teacher")


def actors(site: Site, role: str) -> list[Actor]:
    """The actors of a role; none while the API or the controller is away."""
    try:
        return [one for one in site.mesh.status().actors if one.role == role]
    except MeshError:
        return []


def all_healthy(site: Site, role: str, count: int = 2) -> bool:
    """Whether a role has all its actors, each with a process."""
    rows = actors(site, role)
    return len(rows) == count and all(row.state == "HEALTHY" and row.pid for row in rows)


def replaced(site: Site, victims: Iterable[Actor]) -> bool:
    """Whether others do the work of the victims."""
    rows = list(victims)
    return all(
        all_healthy(site, role) and not {one.name for one in rows} & {one.name for one in actors(site, role)}
        for role in {one.role for one in rows}
    )


def events(site: Site) -> tuple[Event, ...]:
    """What the mesh has told people; nothing while the API is away.

    Each API server shows what it heard itself, and the kernel picks one per connection: a server that was
    just started does not know what was told before. So the connection is a new one, to ask again with.
    """
    try:
        with Mesh(site.running.state) as mesh:
            return mesh.events(1000)
    except MeshError:
        return ()


def told(site: Site, reason: str, since: float) -> Event | None:
    """The first event of that reason after ``since`` (seconds since 1970)."""
    return next((one for one in events(site) if one.reason == reason and one.at >= since), None)


def replacement_told(site: Site, victims: Iterable[Actor], since: float) -> bool:
    """Whether people were told of each victim that it was replaced."""
    told_of = [one.message for one in events(site) if one.reason == "actor_replaced" and one.at >= since]
    return all(any(victim.name in sentence for sentence in told_of) for victim in victims)


def broker_process(site: Site) -> psutil.Process | None:
    """The nats-server of this mesh, by its configuration file; None while there is none."""
    folder = site.running.state.state_dir
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if words and words[0].endswith("nats-server") and any(folder in word for word in words):
            return process
    return None


def is_broker_back(site: Site, pid: int) -> bool:
    """Whether there is a broker of another process id than ``pid``."""
    process = broker_process(site)
    return process is not None and process.pid != pid


@contextmanager
def frozen(pids: Iterable[int]) -> Iterator[None]:
    """Stopped processes, as by a debugger or a hypervisor; those that are there at the end go on."""
    stopped = list(pids)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            wake(pid)


def wake(pid: int) -> None:
    """Let a stopped process go on, if it is there."""
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return


@contextmanager
def without_broker(site: Site, before: Callable[[], None] = lambda: None) -> Iterator[None]:
    """No broker while the block runs: it is killed, and its port is taken so that it cannot come back.

    ``before`` runs when it is dead and nothing has been tried to bring it back.
    """
    process = broker_process(site)
    assert process is not None
    (actor,) = actors(site, "broker")
    address = urlsplit(site.running.state.broker.url)
    assert address.hostname is not None
    assert address.port is not None
    with socket.socket() as taken:
        # Connections of the dead broker linger on the port, so it takes the option to bind; with the option
        # off again nobody else can.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with frozen([actor.pid]):
            process.kill()
            eventually(lambda: process.status() == psutil.STATUS_ZOMBIE)
            eventually(lambda: _bind(taken, (address.hostname, address.port)))
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            before()
        yield


def _bind(taken: socket.socket, address: tuple[str | None, int | None]) -> bool:
    try:
        taken.bind(address)
    except OSError:
        return False
    return True
