"""The processes of ``make bench-proxy``: an application, and proxies before it in four shapes.

``plain`` is a caller's listener before the application, ``tls`` an application's listener that the load
generator calls over mutual TLS, ``pair`` both with mutual TLS between them, ``many`` the plain one with
1,000 services of 20 routes beside; ``tcp`` and ``tcp pair`` carry bytes that nobody understands. The
application speaks HTTP/2 in ``plain h2`` and ``pair h2``; in ``pair upgraded`` only the hop between does, and
in ``plain downgraded`` HTTP/2 ends at the proxy. All proxies share one processor, everything else has the
other.
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
from typing import Literal

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
HTTP2 = " h2"
UPGRADED = "pair upgraded"
DOWNGRADED = "plain downgraded"
_UPGRADES: dict[str, Literal["UPGRADE", "DO_NOT_UPGRADE"]] = {
    UPGRADED: "UPGRADE",
    DOWNGRADED: "DO_NOT_UPGRADE",
}


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
        self._apps: dict[str, tuple[Popen[str], int]] = {}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def app(self, shape: str) -> Popen[str]:
        """The application behind proxies in that shape."""
        return self._app(shape)[0]

    def app_port(self, shape: str) -> int:
        """The port of the application behind proxies in that shape."""
        return self._app(shape)[1]

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

    def haproxy(self, shape: str) -> list[Target]:
        """HAProxy that is called by HTTP/2, where there is one, as it would be for the plain shapes."""
        target = self._plain("haproxy", shape)
        return [] if target is None else [target]

    def _app(self, shape: str) -> tuple[Popen[str], int]:
        name = "http2_upstream.py" if shape.endswith(HTTP2) else "bench_upstream.py"
        if name not in self._apps:
            port = free_port()
            self._apps[name] = self._start(program(name, str(port)), self.other_core), port
            read_line(self._apps[name][0])
        return self._apps[name]

    def _plain(self, name: str, http2_shape: str = "") -> Target | None:
        key = (name, http2_shape or "plain")
        known = self._targets.get(key)
        if known is not None:
            return known
        port, app_port = free_port(), self.app_port(http2_shape)
        if name == "relay":
            command = proxy_plain.relay(port, app_port)
        else:
            path = proxy_plain.find(name)
            if path is None:
                if (
                    note := f"{name} is not installed (Debian: apt install {name}); it is left out"
                ) not in self.notes:
                    self.notes.append(note)
                return None
            if name == "nginx":
                command = proxy_plain.nginx(path, self.folder, port, app_port)
            else:
                versions = bool(http2_shape), http2_shape.endswith(HTTP2)
                command = proxy_plain.haproxy(path, self.folder, port, app_port, versions)
        child = self._start(command, self.proxy_core)
        wait_for_port(child, port)
        target = self._targets[key] = Target(name, port, [child.pid])
        return target

    def _once(self, name: str, shape: str, stack: ExitStack) -> Target:
        if (name, shape) not in self._targets:
            self._targets[name, shape] = self._make(name, shape, stack)
        return self._targets[name, shape]

    def _make(self, name: str, shape: str, stack: ExitStack) -> Target:
        return self._make_ours(shape, stack) if name == OURS else self._make_envoy(shape, stack)

    def _make_ours(self, shape: str, stack: ExitStack) -> Target:
        target = Target(OURS, 0, [])
        base = Settings(
            "inbound",
            str(self.folder),
            self.app_port(shape),
            speaks_http2=shape.endswith(HTTP2),
            h2_upgrade=_UPGRADES.get(shape, ""),
        )
        peer_port = 0
        if shape.startswith(("tls", "pair")):
            peer_port = self._plane(target, base, stack)
            target.tls = self.pki.tls() if shape == "tls" else None
        if shape != "tls":
            outbound = replace(base, role="outbound", peer_port=peer_port)
            if shape == "many":
                outbound = replace(outbound, hosts=MANY["hosts"], routes=MANY["routes"])
            self._plane(target, outbound, stack)
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
        peer_port, app_port, speaks_http2 = 0, self.app_port(shape), shape.endswith(HTTP2)
        if shape.startswith(("tls", "pair")):
            peer_port = target.port = free_port()
            log = self.folder / f"inbound-{peer_port}.log"
            config = proxy_envoy.inbound(self.pki, log, peer_port, app_port, speaks_http2)
            self._run_envoy(target, config, log, stack)
            target.tls = self.pki.tls() if shape == "tls" else None
        if shape != "tls":
            many = MANY if shape == "many" else {}
            target.port = free_port()
            log = self.folder / f"outbound-{target.port}.log"
            config = proxy_envoy.outbound(
                self.pki, log, target.port, app_port, peer_port, speaks_http2=speaks_http2, **many
            )
            self._run_envoy(target, config, log, stack)
        return target

    def _relays(self, target: Target, shape: str, stack: ExitStack) -> None:
        caller, app = proxy_envoy.relay_pair(self.pki) if shape == "tcp pair" else (None, None)
        next_port = self.app_port(shape)
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
