"""Bringing a mesh up from a driver: ``ray-mesh up``, ``ray_mesh.up()`` and the demo.

Without a Ray cluster a private one is started on loopback, in a folder and on ports of its own; no
other Ray session is touched. With ``RAY_ADDRESS`` (as in a Ray job) or ``address`` the mesh is put on
that cluster as detached actors and outlives this process.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from ray_mesh import __version__
from ray_mesh.actors.placement import node_name
from ray_mesh.actors.secrets import StateDir
from ray_mesh.actors.settings import MeshOptions, Replicas
from ray_mesh.errors import ConfigError, Unavailable
from ray_mesh.sdk import Mesh
from ray_mesh.sdk.answers import Proxy
from ray_mesh.sdk.client import is_running
from ray_mesh.sdk.state import Broker, MeshState, default_path, read_state, write_state

NAMESPACE = "ray-mesh"
CONTROLLER = "controller"
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 2.5
SHARED_STOP_TIMEOUT_S = 20.0
"""On a cluster that goes on nothing else ends the actors, so they are given the time to drain."""


@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """What ``ray-mesh up`` takes.

    ``replicas`` of each control role and ``proxies`` per node; ``ingress`` maps port numbers of
    Gateway documents to local ports (0 = any free one); ``state_dir`` keeps the mesh over restarts
    (None: a temporary folder that ends with it); ``address`` is an existing Ray cluster.
    """

    name: str = "default"
    replicas: int = 1
    proxies: int = 2
    svid_ttl_s: int = 3600
    api_port: int = 0
    ingress: tuple[tuple[int, int], ...] = ((8080, 0),)
    state_dir: Path | None = None
    state_file: Path | None = None
    address: str = ""


@dataclass(slots=True)
class RunningMesh:
    """A mesh that this process started or joined."""

    state: MeshState
    state_file: Path
    controller: Any
    owns_ray: bool
    temporary: list[Path] = field(default_factory=list)

    def stop(self) -> None:
        """Take the mesh down and remove what it left. Ends a Ray that :func:`start` started."""
        import ray

        patience_s = STOP_TIMEOUT_S if self.owns_ray else SHARED_STOP_TIMEOUT_S
        with contextlib.suppress(Exception):
            ray.get(self.controller.down.remote(), timeout=patience_s)
        with contextlib.suppress(Exception):
            ray.kill(self.controller, no_restart=True)
        self.state_file.unlink(missing_ok=True)
        if self.owns_ray:
            ray.shutdown()
        for folder in self.temporary:
            shutil.rmtree(folder, ignore_errors=True)


def start(options: LaunchOptions) -> RunningMesh:
    """Bring a mesh up and wait until it serves.

    Raises:
        ConfigError: a mesh of that name, or one of another version, already runs there.
        Unavailable: it did not come up in time; the message says which part.
    """
    import ray

    _refuse_second(options)
    temporary: list[Path] = []
    owns_ray = False
    try:
        if not ray.is_initialized():
            owns_ray = _connect(options, temporary)
        state_dir = options.state_dir or _temporary_folder("ray-mesh-", temporary)
        mesh = _mesh_options(options, state_dir.absolute(), private=owns_ray)
        controller = _controller(mesh)
        api_port = ray.get(controller.wait_ready.remote(READY_TIMEOUT_S), timeout=READY_TIMEOUT_S + 5)
        node = node_name(ray.get_runtime_context().get_node_id())
        state = _publish(options, mesh, api_port, node)
    except BaseException:
        if owns_ray:
            ray.shutdown()
        for folder in temporary:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return RunningMesh(state, _state_file(options), controller, owns_ray, temporary)


def up(**options: Any) -> EmbeddedMesh:
    """The embedded default for scripts and notebooks: start a mesh and return its client.

    Takes the fields of :class:`LaunchOptions`. The mesh ends with ``down()`` or with this process.
    """
    return EmbeddedMesh(start(LaunchOptions(**options)))


class EmbeddedMesh(Mesh):
    """The client of a mesh that this process runs."""

    def __init__(self, running: RunningMesh) -> None:
        super().__init__(running.state)
        self._running = running
        atexit.register(running.stop)

    def down(self, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End the mesh, and the Ray that was started for it."""
        atexit.unregister(self._running.stop)
        self.close()
        self._running.stop()


def run_foreground(options: LaunchOptions, say: Callable[[str], None]) -> int:
    """``ray-mesh up``: start a mesh and run it until SIGINT, SIGTERM or ``ray-mesh down``."""
    running = start(options)
    try:
        for line in describe(running):
            say(line)
        if running.owns_ray:
            wait_for_end(running)
            say("ending the mesh")
    finally:
        if running.owns_ray:
            running.stop()
    return 0


def run_detached(options: LaunchOptions, arguments: list[str], say: Callable[[str], None]) -> int:
    """``ray-mesh up --detach``: leave a process behind that runs the mesh; return when it serves.

    ``arguments`` are those of the same command without ``--detach``.

    Raises:
        Unavailable: the process ended, or was not ready in time; its log is named.
    """
    state_file = _state_file(options)
    log_file = state_file.with_suffix(".log")
    state_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with log_file.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "ray_mesh", "up", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + READY_TIMEOUT_S + 10
    while child.poll() is None and time.monotonic() < deadline:
        if state_file.exists() and read_state(state_file).pid == child.pid:
            say(f"the mesh runs as process {child.pid}; `ray-mesh down` ends it (log: {log_file})")
            return 0
        time.sleep(0.1)
    child.terminate()
    raise Unavailable(f"the mesh did not come up; see {log_file}")


def describe(running: RunningMesh) -> list[str]:
    """What a person wants to know of a mesh that just started."""
    state = running.state
    ingress = [
        f"ingress  {url}  (port {number} of Gateway documents)" for number, url in state.ingress.items()
    ]
    return [f"mesh     {state.name} {state.version}", f"API      {state.api}", *ingress]


def wait_for_end(running: RunningMesh) -> None:
    """Return at SIGINT, SIGTERM, or when the mesh was taken down from elsewhere."""
    import ray

    ended = threading.Event()
    with _signals(ended):
        done = running.controller.wait_down.remote()
        while not ended.is_set():
            with contextlib.suppress(ray.exceptions.RayError):
                ready, _ = ray.wait([done], timeout=0.2)
                if ready:
                    return


@contextlib.contextmanager
def _signals(ended: threading.Event) -> Iterator[None]:
    def note(_number: int, _frame: object) -> None:
        ended.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _connect(options: LaunchOptions, temporary: list[Path]) -> bool:
    """Join the cluster that was named, or start a private Ray; True for the latter."""
    import ray

    address = options.address or os.environ.get("RAY_ADDRESS", "")
    if address:
        ray.init(address=address, log_to_driver=False, namespace=NAMESPACE)
        return False
    # A token of its own, so that no file is left in the user's home and no other session shares it.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with _own_sigterm():
        ray.init(
            address="local",
            include_dashboard=False,
            _temp_dir=str(_temporary_folder("rm-", temporary)),
            log_to_driver=False,
            namespace=NAMESPACE,
        )
    return True


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Ray replaces the handler of SIGTERM with one that aborts the process after 3 s."""
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)


def _refuse_second(options: LaunchOptions) -> None:
    state_file = _state_file(options)
    if not state_file.exists():
        return
    running = read_state(state_file)
    if is_running(running.pid):
        raise ConfigError(
            f"mesh {running.name} already runs as process {running.pid} ({state_file}): "
            "`ray-mesh down` ends it, --name starts another one"
        )


def _temporary_folder(prefix: str, temporary: list[Path]) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    temporary.append(folder)
    return folder


def _mesh_options(options: LaunchOptions, state_dir: Path, *, private: bool) -> MeshOptions:
    return MeshOptions(
        name=options.name,
        state_dir=state_dir,
        namespace=NAMESPACE if options.name == "default" else f"{NAMESPACE}-{options.name}",
        replicas=Replicas.uniform(options.replicas, options.proxies),
        svid_ttl_s=options.svid_ttl_s,
        api_port=options.api_port,
        bind_address="127.0.0.1" if private else "",
    )


def _controller(options: MeshOptions) -> Any:
    """The mesh's controller: the one that runs, if it is of our version, else a new one."""
    import ray

    from ray_mesh.actors.controller import MeshController

    try:
        found = ray.get_actor(CONTROLLER, namespace=options.namespace)
    except ValueError:
        here = ray.get_runtime_context().get_node_id()
        return (
            ray.remote(MeshController)
            .options(
                name=CONTROLLER,
                namespace=options.namespace,
                lifetime="detached",
                num_cpus=0,
                max_restarts=-1,
                max_task_retries=-1,
                max_concurrency=1000,
                label_selector={"ray.io/node-id": here},
            )
            .remote(options)
        )
    running: Any = ray.get(found.describe.remote(), timeout=READY_TIMEOUT_S)
    if running.version != __version__:
        raise ConfigError(
            f"mesh {options.name} runs version {running.version}, this is {__version__}: "
            "take it down first, or use the same version"
        )
    return found


def _publish(options: LaunchOptions, mesh: MeshOptions, api_port: int, node: str) -> MeshState:
    """Write the state file, then register the ingress through the API that it names."""
    state_dir = StateDir(mesh.state_dir)
    state = MeshState(
        name=mesh.name,
        version=__version__,
        api=f"http://127.0.0.1:{api_port}",
        token=state_dir.token(),
        pid=os.getpid(),
        ingress={},
        broker=Broker(url=state_dir.broker_url(), ca_pem_path=str(mesh.state_dir / "root.crt")),
        state_dir=str(mesh.state_dir),
        node=node,
    )
    with Mesh(state) as client:
        client.apply(files("ray_mesh.configs").joinpath("base.yaml").read_text())
        ingress = client.attach(
            "istio-ingressgateway",
            __version__.replace(".", "-"),
            0,
            namespace=mesh.root_namespace,
            name="ingressgateway",
            service_account="ingressgateway",
            labels={"istio": "ingressgateway"},
            gateway_ports=dict(options.ingress),
        )
        urls = _ingress_urls(client.proxies(), node, ingress.gateway_ports)
    state = replace(state, ingress=urls)
    write_state(_state_file(options), state)
    return state


def _ingress_urls(proxies: Iterable[Proxy], node: str, ports: Mapping[str, int]) -> dict[str, str]:
    """By port number of Gateway documents: where the proxies of ``node`` take what comes from outside.

    Raises:
        Unavailable: the node's proxies ended meanwhile.
    """
    address = next((one.address for one in proxies if one.node == node), "")
    if not address:
        raise Unavailable(f"node {node} has no live proxy for the ingress")
    host = f"[{address}]" if ":" in address else address
    return {number: f"http://{host}:{port}" for number, port in ports.items()}


def _state_file(options: LaunchOptions) -> Path:
    return options.state_file or default_path("" if options.name == "default" else options.name)
