"""The hosts that this plane knows, and requests that wait until it knows one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Literal

from ray_mesh.proxy.cluster import Destination, Member
from ray_mesh.proxy.passing import PASSTHROUGH, passthrough
from ray_mesh.proxy.timers import Wheel
from ray_mesh.snapshot import Endpoints, Service

WAIT_S = 5.0
"""How long the first request for a host waits for its configuration."""
UNKNOWN_S = 2.0
"""How long "not in the mesh" is believed before it is asked again."""
_MAX_UNKNOWN = 1000

Outcome = Literal["ready", "unknown", "late"]
Resume = Callable[[Outcome], None]


class Registry:
    """Destinations by full host. ``on_unknown_host`` is called once per host that somebody waits for."""

    def __init__(self, wheel: Wheel) -> None:
        self._wheel = wheel
        self._destinations: dict[str, Destination] = {}
        self._waiting: dict[str, list[_Waiting]] = {}
        self._unknown_until: dict[str, float] = {}
        self._passthrough = passthrough()
        self._proxies: frozenset[tuple[str, int]] | None = None  # where they are; None: to be found anew
        self.on_unknown_host: Callable[[str], None] | None = None

    def __len__(self) -> int:
        return len(self._destinations)

    def __iter__(self) -> Iterator[Destination]:
        return iter(self._destinations.values())

    def find(self, host: str) -> Destination | None:
        """The destination, once both its service and its endpoints have come."""
        found = self._passthrough if host == PASSTHROUGH else self._destinations.get(host)
        if found is None or not found.is_complete:
            return None
        found.is_asked_for = True
        return found

    def idle(self, now: float, idle_s: float) -> list[str]:
        """The hosts that nobody has asked for in ``idle_s``; to be called regularly."""
        return [host for host, one in self._destinations.items() if one.idle_s(now) >= idle_s]

    def is_unknown(self, host: str) -> bool:
        """Whether the control plane said a moment ago that the mesh has no such host."""
        return self._unknown_until.get(host, 0.0) > time.monotonic()

    @property
    def passthrough(self) -> Service:
        """What stands for all hosts that nobody has declared."""
        assert self._passthrough.service is not None
        return self._passthrough.service

    def was_unknown(self, host: str) -> bool:
        """Whether the control plane said so at any time, and nothing else since."""
        return host in self._unknown_until

    def ask_again(self, host: str) -> None:
        """Ask the control plane for a host that was unknown, while nobody waits for the answer."""
        if host not in self._waiting:
            self.wait(host, lambda outcome: None)

    def is_endpoint(self, address: str, port: int) -> bool:
        """Whether this is where a proxy of the mesh takes calls, as far as it is known here."""
        if self._proxies is None:
            self._proxies = frozenset(
                (endpoint.address, endpoint.port)
                for destination in self._destinations.values()
                for endpoint in destination.members or ()
                if endpoint.transport == "mutual_tls"
            )
        return (address, port) in self._proxies

    def drop_idle(self) -> tuple[Member, ...]:
        """See :meth:`.cluster.Destination.drop_idle`."""
        kept = (self._passthrough, *self._destinations.values())
        return tuple(member for destination in kept for member in destination.drop_idle())

    def wait(self, host: str, resume: Resume) -> None:
        """Call ``resume`` once the host is known, is known not to exist, or ``WAIT_S`` have passed."""
        waiting = _Waiting(self, host, resume)
        others = self._waiting.setdefault(host, [])
        others.append(waiting)
        self._wheel.add(time.monotonic() + WAIT_S, waiting)
        if len(others) == 1 and self.on_unknown_host is not None:
            self.on_unknown_host(host)

    def set_service(self, host: str, service: Service | None) -> tuple[Member, ...]:
        """A service came, changed or went; returns the members that went with it."""
        destination = self._destination(host)
        gone = destination.set_service(service, time.monotonic())
        self._changed(destination)
        return gone

    def set_endpoints(self, host: str, endpoints: Endpoints | None) -> tuple[Member, ...]:
        """The members of a host came, changed or went; returns those that are gone."""
        self._proxies = None
        destination = self._destination(host)
        listed = None if endpoints is None else endpoints.endpoints
        gone = destination.set_endpoints(listed, time.monotonic())
        self._changed(destination)
        return gone

    def set_unknown(self, host: str) -> None:
        """The mesh has no such host."""
        if len(self._unknown_until) >= _MAX_UNKNOWN:
            self._unknown_until.clear()
        self._unknown_until[host] = time.monotonic() + UNKNOWN_S
        self._resume(host, "unknown")

    def _destination(self, host: str) -> Destination:
        self._unknown_until.pop(host, None)
        return self._destinations.setdefault(host, Destination(host))

    def _changed(self, destination: Destination) -> None:
        if destination.is_complete:
            self._resume(destination.host, "ready")
        elif destination.service is None and destination.members is None:
            del self._destinations[destination.host]

    def _resume(self, host: str, outcome: Outcome) -> None:
        for waiting in self._waiting.pop(host, ()):
            waiting.end(outcome)

    def forget(self, waiting: _Waiting) -> None:
        """A wait ended by itself."""
        others = self._waiting.get(waiting.host)
        if others is not None:
            others.remove(waiting)
            if not others:
                del self._waiting[waiting.host]


class _Waiting:
    """One request that waits for a host."""

    __slots__ = ("_registry", "_resume", "host")

    def __init__(self, registry: Registry, host: str, resume: Resume) -> None:
        self._registry = registry
        self._resume: Resume | None = resume
        self.host = host

    def end(self, outcome: Outcome) -> None:
        """Resume, once."""
        resume, self._resume = self._resume, None
        if resume is not None:
            resume(outcome)

    def on_deadline(self, now: float) -> None:
        """See :class:`.timers.Timed`."""
        if self._resume is not None:
            self._registry.forget(self)
            self.end("late")
