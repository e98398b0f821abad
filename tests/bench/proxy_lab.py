"""The processes of ``make bench-proxy``: an application, and proxies before it in four shapes.

``plain`` is a caller's listener before the application, ``tls`` an application's listener that the load
generator calls over mutual TLS, ``pair`` both with mutual TLS between them, ``many`` the plain one with
1,000 services of 20 routes beside; ``tcp`` and ``tcp pair`` carry bytes that nobody understands. All
proxies share one processor, everything else has the other.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from subprocess import Popen
from types import TracebackType

import bench_envoy
import proxy_envoy
import proxy_plain
from bench_cpu import cores, wait_until_calm
from bench_load import Tls
from bench_process import free_port, process, program, read_line, wait_for_port
from bench_rows import CALM_CORES
from proxy_pki import Pki
from proxy_plane import DB_PORT, Settings

OURS = "ray mesh"
ENVOY = "envoy 1.40"
MANY = {"hosts": 1000, "routes": 20}


TUNNELLED = {"tcp": "plain", "tcp pair": "pair"}
"""Which planes of ours carry tunnels as well."""


@dataclass(slots=True)
class Target:
    """Proxies that carry the same traffic one behind the other. ``answered`` counts what they served;
    ``planes`` are ours, first the one that is called; ``logs`` are those of Envoys."""

    name: str
    port: int
    pids: list[int]
    fields: list[tuple[str, str]] = field(default_factory=list)
    tls: Tls | None = None
    planes: list[Popen[str]] = field(default_factory=list)
    logs: list[Path] = field(default_factory=list)
    tunnel: str = ""
    answered: int = 0


class Patience:
    """How long to wait for a calm machine: so long for each round, and in all."""

    def __init__(self, round_s: float, case_s: float, total_s: float) -> None:
        self._round_s = round_s
        self._case_s = case_s
        self._case_left_s = case_s
        self._ends_at = time.monotonic() + total_s

    @property
    def is_over(self) -> bool:
        """Whether the time of the whole bench is used up."""
        return time.monotonic() > self._ends_at

    def begin_case(self) -> None:
        """Each case may wait anew."""
        self._case_left_s = self._case_s

    def wait(self) -> None:
        """Return when it is calm, or when enough was waited."""
        begun_at = time.monotonic()
        wait_until_calm(CALM_CORES, min(self._round_s, self._case_left_s, self._ends_at - begun_at))
        self._case_left_s -= time.monotonic() - begun_at


class Lab:
    """Starts proxies, each when it is first asked for; all end with the context."""

    def __init__(self) -> None:
        self.proxy_core, self.other_core = cores()
        self._stack = ExitStack()
        self._targets: dict[tuple[str, str], Target] = {}
        self.notes: list[str] = []

    def __enter__(self) -> Lab:
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-proxy-")))
        self.pki = Pki.create(self.folder)
        self.app_port = free_port()
        self.app = self._start(program("bench_upstream.py", str(self.app_port)), self.other_core)
        read_line(self.app)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def ours(self, shape: str) -> Target:
        """Our planes in that shape."""
        if shape in TUNNELLED:
            target = self._once(OURS, TUNNELLED[shape], self._stack)
            return replace(target, tunnel=f"db:{DB_PORT}")
        return self._once(OURS, shape, self._stack)

    def envoy(self, shape: str) -> Target:
        """Envoys in that shape."""
        return self._once(ENVOY, shape, self._stack)

    @contextmanager
    def fresh(self, name: str, shape: str) -> Iterator[Target]:
        """Proxies that have served nothing yet, and end with the context."""
        with ExitStack() as stack:
            yield self._make(name, shape, stack)

    def plain(self) -> list[Target]:
        """HAProxy, nginx (where there are any) and the relay."""
        return [target for name in ("haproxy", "nginx", "relay") if (target := self._plain(name)) is not None]

    def _plain(self, name: str) -> Target | None:
        known = self._targets.get((name, "plain"))
        if known is not None:
            return known
        port = free_port()
        if name == "relay":
            command = proxy_plain.relay(port, self.app_port)
        else:
            path = proxy_plain.find(name)
            if path is None:
                if (
                    note := f"{name} is not installed (Debian: apt install {name}); it is left out"
                ) not in self.notes:
                    self.notes.append(note)
                return None
            make = proxy_plain.haproxy if name == "haproxy" else proxy_plain.nginx
            command = make(path, self.folder, port, self.app_port)
        child = self._start(command, self.proxy_core)
        wait_for_port(child, port)
        target = self._targets[name, "plain"] = Target(name, port, [child.pid])
        return target

    def _once(self, name: str, shape: str, stack: ExitStack) -> Target:
        if (name, shape) not in self._targets:
            self._targets[name, shape] = self._make(name, shape, stack)
        return self._targets[name, shape]

    def _make(self, name: str, shape: str, stack: ExitStack) -> Target:
        return self._make_ours(shape, stack) if name == OURS else self._make_envoy(shape, stack)

    def _make_ours(self, shape: str, stack: ExitStack) -> Target:
        target = Target(OURS, 0, [])
        peer_port = 0
        if shape in ("tls", "pair"):
            peer_port = self._plane(target, Settings("inbound", str(self.folder), self.app_port), stack)
            target.tls = self.pki.tls() if shape == "tls" else None
        if shape != "tls":
            many = MANY if shape == "many" else {}
            settings = Settings("outbound", str(self.folder), self.app_port, peer_port, **many)
            self._plane(target, settings, stack)
        return target

    def _plane(self, target: Target, settings: Settings, stack: ExitStack) -> int:
        command = program("proxy_plane.py", json.dumps(asdict(settings)))
        child = stack.enter_context(process(command, self.proxy_core))
        ready = json.loads(read_line(child))
        target.port = ready["port"]
        wait_for_port(child, target.port)
        target.pids.append(child.pid)
        target.planes.insert(0, child)
        if settings.role == "outbound":
            target.fields = [("proxy-authorization", ready["authorization"])]
        return target.port

    def _make_envoy(self, shape: str, stack: ExitStack) -> Target:
        target = Target(ENVOY, 0, [])
        if shape in TUNNELLED:
            self._relays(target, shape, stack)
            return target
        peer_port = 0
        if shape in ("tls", "pair"):
            peer_port = target.port = free_port()
            log = self.folder / f"inbound-{peer_port}.log"
            config = proxy_envoy.inbound(self.pki, log, peer_port, self.app_port)
            self._run_envoy(target, config, log, stack)
            target.tls = self.pki.tls() if shape == "tls" else None
        if shape != "tls":
            many = MANY if shape == "many" else {}
            target.port = free_port()
            log = self.folder / f"outbound-{target.port}.log"
            config = proxy_envoy.outbound(self.pki, log, target.port, self.app_port, peer_port, **many)
            self._run_envoy(target, config, log, stack)
        return target

    def _relays(self, target: Target, shape: str, stack: ExitStack) -> None:
        caller, app = proxy_envoy.relay_pair(self.pki) if shape == "tcp pair" else (None, None)
        next_port = self.app_port
        for tls in (app, caller)[shape == "tcp" :]:
            target.port = free_port()
            log = self.folder / f"relay-{target.port}.log"
            config = proxy_envoy.relay(log, target.port, next_port, tls)
            self._run_envoy(target, config, log, stack)
            next_port = target.port

    def _run_envoy(self, target: Target, config: proxy_envoy.Config, log: Path, stack: ExitStack) -> None:
        path = proxy_envoy.write(config, self.folder / f"envoy-{target.port}.json")
        child = stack.enter_context(process(bench_envoy.command(path), self.proxy_core))
        wait_for_port(child, target.port)
        target.pids.append(child.pid)
        target.logs.append(log)

    def _start(self, command: list[str], core: int) -> Popen[str]:
        return self._stack.enter_context(process(command, core))
