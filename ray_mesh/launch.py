"""Bringing a mesh up from a driver: ``ray-mesh up``, ``ray_mesh.up()`` and the demo.

Without a Ray cluster a private one is started on loopback, in a folder and on ports of its own; no
other Ray session is touched. With ``RAY_ADDRESS`` (as in a Ray job) or ``address`` the mesh is put on
that cluster as detached actors and outlives this process.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from ray_mesh import __version__, cluster, upgrade
from ray_mesh.actors.placement import node_name
from ray_mesh.actors.secrets import StateDir
from ray_mesh.actors.settings import Description, MeshOptions, Replicas
from ray_mesh.errors import ConfigError, MeshError, Unavailable
from ray_mesh.gateway.listening import ApiAddress
from ray_mesh.own_nats import NatsChoice, OwnNats
from ray_mesh.sdk import Mesh
from ray_mesh.sdk.answers import Proxy
from ray_mesh.sdk.client import is_running
from ray_mesh.sdk.state import Broker, MeshState, default_path, read_state, write_state

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 2.5
SHARED_STOP_TIMEOUT_S = 20.0
"""On a cluster that goes on nothing else ends the actors, so they are given the time to drain, and
nothing else removes what is on a NATS of somebody's own."""
GONE_TIMEOUT_S = 5.0
PROBE_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """What ``ray-mesh up`` takes.

    ``replicas`` of each control role and ``proxies`` per node (None: 1 and 2, or as many as run
    already); ``ingress`` maps port numbers of Gateway documents to local ports (0 = any free one);
    ``state_dir`` keeps the mesh when it goes down (None: a folder that ends with it); ``address`` is an
    existing Ray cluster; ``api`` is where the API listens and what else it is called; ``nats`` is a NATS of
    somebody's own (None: the mesh starts its broker).
    """

    name: str = "default"
    replicas: int | None = None
    proxies: int | None = None
    svid_ttl_s: int = 3600
    api: ApiAddress = field(default_factory=ApiAddress)
    api_port: int = 0
    ingress: tuple[tuple[int, int], ...] = ((8080, 0),)
    state_dir: Path | None = None
    state_file: Path | None = None
    address: str = ""
    nats: NatsChoice | None = None


@dataclass(slots=True)
class RunningMesh:
    """A mesh that this process started or joined."""

    state: MeshState
    state_file: Path
    controller: Any
    owns_ray: bool
    temporary: list[Path] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def stop(self) -> None:
        """Take the mesh down and remove what it left. Ends a Ray that :func:`start` started."""
        import ray

        is_alone = self.owns_ray and self.state.broker.embedded
        _end(self.controller, STOP_TIMEOUT_S if is_alone else SHARED_STOP_TIMEOUT_S)
        if not is_alone:
            cluster.wait_ended(cluster.namespace_of(self.state.name), GONE_TIMEOUT_S)
        self.state_file.unlink(missing_ok=True)
        if self.owns_ray:
            ray.shutdown()
        for folder in self.temporary:
            shutil.rmtree(folder, ignore_errors=True)


def start(options: LaunchOptions) -> RunningMesh:
    """Bring a mesh up and wait until it serves; one that runs on the cluster already is joined, and
    upgraded in place when it is of an older version.

    Raises:
        ConfigError: a mesh of that name runs in another process or on another node, is of a newer
            version, or was started with other options.
        Unavailable: there is no such cluster, or it did not come up in time; the message says which part.
    """
    import ray

    if running := find_running(options):
        raise ConfigError(f"{already(running)}: connect to it, end it, or give this one another --name")
    temporary: list[Path] = []
    warnings: list[str] = []
    owns_ray, created, mesh = False, None, None
    nats = OwnNats.read(options.nats) if options.nats else None
    try:
        if not ray.is_initialized():
            if not cluster.address_of(options.address):
                # Before a Ray is started for nothing.
                mesh, warnings = _prepare(options, nats, True, temporary)
            owns_ray = _connect(options, temporary)
        controller = _find(options)
        if controller is None:
            if mesh is None:
                mesh, warnings = _prepare(options, nats, False, temporary)
            controller = created = cluster.create_controller(mesh)
        state = _join(options, controller, os.getpid() if owns_ray else 0)
        write_state(state_file_of(options), state)
    except BaseException:
        if created is not None:
            _end(created, STOP_TIMEOUT_S)
        if owns_ray:
            ray.shutdown()
        for folder in temporary:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return RunningMesh(state, state_file_of(options), controller, owns_ray, temporary, warnings)


def up(**options: Any) -> EmbeddedMesh:
    """The mesh for scripts and notebooks: start it, or join the one of the cluster, and return its client.

    Takes the fields of :class:`LaunchOptions`. A mesh with a Ray of its own ends with ``down()`` or with
    this process; one on a cluster goes on until ``down()``.
    """
    return EmbeddedMesh(start(LaunchOptions(**options)))


class EmbeddedMesh(Mesh):
    """The client of a mesh that this process started or joined."""

    def __init__(self, running: RunningMesh) -> None:
        super().__init__(running.state)
        self._running = running
        if running.owns_ray:
            atexit.register(running.stop)

    def down(self, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End the mesh, and the Ray that was started for it."""
        atexit.unregister(self._running.stop)
        self.close()
        self._running.stop()


def find_running(options: LaunchOptions) -> MeshState | None:
    """The mesh behind the state file, if it runs where :func:`start` would not join it.

    Raises:
        ConfigError: the state file is of another mesh that runs, or cannot be read.
    """
    state_file = state_file_of(options)
    if not state_file.exists():
        return None
    state = read_state(state_file)
    # On the cluster that was asked for, the controller is the one to ask.
    is_elsewhere = state.pid == 0 and not cluster.address_of(options.address)
    if not is_running(state.pid) and not (is_elsewhere and _answers(state)):
        return None
    if state.name != options.name:
        raise ConfigError(f"{state_file} belongs to mesh {state.name}: give --state-file, or take it down")
    return state


def already(state: MeshState) -> str:
    """The sentence that a mesh runs, and where."""
    where = f"as process {state.pid}" if state.pid else f"on a Ray cluster, its API is {state.api}"
    return f"mesh {state.name} {state.version} already runs {where}"


def _answers(state: MeshState) -> bool:
    try:
        with Mesh(state, timeout_s=PROBE_TIMEOUT_S) as mesh:
            mesh.version()
    except MeshError:
        return False
    return True


def _end(controller: Any, timeout_s: float) -> None:
    import ray

    with contextlib.suppress(Exception):
        ray.get(controller.down.remote(), timeout=timeout_s)
    with contextlib.suppress(Exception):
        ray.kill(controller, no_restart=True)


def _connect(options: LaunchOptions, temporary: list[Path]) -> bool:
    """Join the cluster that was named, or start a private Ray; True for the latter."""
    if address := cluster.address_of(options.address):
        cluster.join(address)
        return False
    cluster.start_private(_temporary_folder("rm-", temporary))
    return True


def _temporary_folder(prefix: str, temporary: list[Path]) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    temporary.append(folder)
    return folder


def _prepare(
    options: LaunchOptions, nats: OwnNats | None, private: bool, temporary: list[Path]
) -> tuple[MeshOptions, list[str]]:
    """The options of a mesh that is to be started, and warnings; a NATS of somebody's own was looked at."""
    mesh = _mesh_options(options, private, temporary)
    if nats is None:
        return mesh, []
    is_new = not mesh.state_dir.exists()
    try:
        warnings = nats.prepare(StateDir(mesh.state_dir), mesh.name)
    except BaseException:
        if is_new:
            shutil.rmtree(mesh.state_dir, ignore_errors=True)
        raise
    return replace(mesh, nats=nats.settings), warnings


def _mesh_options(options: LaunchOptions, private: bool, temporary: list[Path]) -> MeshOptions:
    state_dir = options.state_dir
    if state_dir is None:
        # A cluster may outlive this machine's temporary files.
        beside = state_file_of(options).with_suffix(".state")
        state_dir = _temporary_folder("ray-mesh-", temporary) if private else beside
    return MeshOptions(
        name=options.name,
        state_dir=state_dir.absolute(),
        keep_state=options.state_dir is not None,
        namespace=cluster.namespace_of(options.name),
        replicas=Replicas.uniform(options.replicas or 1, options.proxies or 2),
        svid_ttl_s=options.svid_ttl_s,
        api=_api_address(options.api),
        api_port=options.api_port,
        bind_address="127.0.0.1" if private else "",
    )


def _api_address(chosen: ApiAddress) -> ApiAddress:
    """With the machine's own address among its names, when it listens on all of them."""
    if not chosen.is_everywhere:
        return chosen
    return replace(chosen, names=(cluster.node_address(), *chosen.names))


def _find(options: LaunchOptions) -> Any | None:
    """The controller of the mesh, if it runs; of this version then, if that could be done."""
    import ray

    namespace = cluster.namespace_of(options.name)
    controller = cluster.find_controller(namespace)
    if controller is None:
        return None
    running: Description = cluster.ask(controller.describe.remote())
    here = node_name(ray.get_runtime_context().get_node_id())
    if running.node != here:
        raise ConfigError(
            f"mesh {options.name} runs on node {running.node}, this is {here}: its token is there and does "
            "not travel through Ray. Run `ray-mesh up` there, or use a copy of its state file"
        )
    if running.version == __version__:
        return controller
    upgrade.check_is_older(options.name, running.version)
    return upgrade.replace_controller(controller, namespace)


def _join(options: LaunchOptions, controller: Any, pid: int) -> MeshState:
    """Wait until the mesh serves; returns its state, published if this is the first time."""
    cluster.ask(controller.scale.remote(options.replicas, options.proxies))
    described: Description = cluster.ask(controller.wait_ready.remote(READY_TIMEOUT_S), READY_TIMEOUT_S + 5)
    upgrade.wait_renewed(controller)
    mesh: MeshOptions = cluster.ask(controller.options.remote())
    _check_options(options, mesh)
    published = StateDir(mesh.state_dir).state_file
    if published.exists() and (state := read_state(published)).node == described.node:
        state = replace(state, version=__version__)
    else:
        state = _publish(options, mesh, described, pid)
    write_state(published, state)
    return state


def _check_options(options: LaunchOptions, running: MeshOptions) -> None:
    """Refuse options that were given and that a running mesh does not take any more."""
    default, given = LaunchOptions(), {one.name for one in fields(MeshOptions)} - {"name", "replicas"}
    for name in sorted(given & {one.name for one in fields(LaunchOptions)}):
        wanted, has = getattr(options, name), getattr(running, name)
        if name == "api":
            wanted = _api_address(wanted)
        if name == "nats" and wanted:
            wanted, has = wanted.url, has.url if has else "the broker of the mesh"
        if name == "state_dir" and wanted:
            wanted = wanted.absolute()
        if getattr(options, name) != getattr(default, name) and wanted != has:
            raise ConfigError(
                f"mesh {running.name} runs with {name}={has}, not {wanted}: "
                "that is chosen when it starts, so take it down first"
            )


def _publish(options: LaunchOptions, mesh: MeshOptions, running: Description, pid: int) -> MeshState:
    """Register the base documents and the ingress through the API; returns where all of it is."""
    state_dir = StateDir(mesh.state_dir)
    state = MeshState(
        name=mesh.name,
        version=__version__,
        api=mesh.api.url(running.api_port),
        token=state_dir.token(),
        pid=pid,
        ingress={},
        broker=_broker(mesh, state_dir),
        state_dir=str(mesh.state_dir),
        node=running.node,
        root_pem=state_dir.root_pem(),
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
        urls = _ingress_urls(client.proxies(), running.node, ingress.gateway_ports)
    return replace(state, ingress=urls)


def _broker(mesh: MeshOptions, state_dir: StateDir) -> Broker:
    if mesh.nats is None:
        return Broker(url=state_dir.broker_url(), ca_pem_path=str(mesh.state_dir / "root.crt"))
    return Broker(mesh.nats.url, str(state_dir.nats_ca) if mesh.nats.ca_pem else "", embedded=False)


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


def state_file_of(options: LaunchOptions) -> Path:
    """Where the mesh of these options tells programs of itself."""
    return options.state_file or default_path("" if options.name == "default" else options.name)
