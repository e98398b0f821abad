"""The Ray that a mesh runs on, and the one actor that is found by name there: its controller."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ray_mesh.actors.settings import MeshOptions
from ray_mesh.errors import ConfigError, MeshError, Unavailable

NAMESPACE = "ray-mesh"
CONTROLLER = "controller"
CONCURRENCY = 1000
ANSWER_TIMEOUT_S = 60.0


def namespace_of(mesh: str) -> str:
    """The Ray namespace of the mesh of that name."""
    return NAMESPACE if mesh == "default" else f"{NAMESPACE}-{mesh}"


def address_of(chosen: str) -> str:
    """The cluster that was chosen, or that ``RAY_ADDRESS`` names (as in a Ray job); empty when neither.

    Raises:
        ConfigError: it is one for Ray Client.
    """
    address = chosen or os.environ.get("RAY_ADDRESS", "")
    if address.startswith("ray://"):
        raise ConfigError(
            f"{address}: a mesh is started on the cluster, not through Ray Client. "
            "Use `ray job submit -- python -m ray_mesh up --detach`, or run `ray-mesh up` on its head"
        )
    return address


def join(address: str) -> None:
    """Connect this process to a running cluster.

    Raises:
        Unavailable: there is none, or it does not take us.
    """
    import ray

    try:
        ray.init(address=address, log_to_driver=False, namespace=NAMESPACE)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise Unavailable(f"cannot join the Ray cluster at {address}: {error}") from error


def start_private(folder: Path) -> None:
    """Start a Ray on loopback that is this process's alone, with its files in ``folder``."""
    import ray

    # A token of its own, so that no file is left in the user's home and no other session shares it.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with _own_sigterm():
        ray.init(
            address="local",
            include_dashboard=False,
            _temp_dir=str(folder),
            log_to_driver=False,
            namespace=NAMESPACE,
        )


def node_address() -> str:
    """The IP of this machine, as the cluster's other nodes know it."""
    import ray

    untyped: Any = ray.util
    return str(untyped.get_node_ip_address())


def find_controller(namespace: str) -> Any | None:
    """The controller of the mesh that runs, if one does."""
    import ray

    try:
        return ray.get_actor(CONTROLLER, namespace=namespace)
    except ValueError:
        return None


def wait_ended(namespace: str, timeout_s: float) -> None:
    """Return when the cluster knows of no controller there any more, which is a moment after its end; or
    when the time is over."""
    ends_at = time.monotonic() + timeout_s
    while find_controller(namespace) is not None and time.monotonic() < ends_at:
        time.sleep(0.05)


def create_controller(options: MeshOptions) -> Any:
    """A controller, detached, on this driver's node; of two that ask at once both get the same."""
    import ray

    from ray_mesh.actors.controller import MeshController

    remote: Any = ray.remote(MeshController)
    return remote.options(
        name=CONTROLLER,
        namespace=options.namespace,
        get_if_exists=True,
        lifetime="detached",
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=-1,
        max_concurrency=CONCURRENCY,
        label_selector={"ray.io/node-id": ray.get_runtime_context().get_node_id()},
    ).remote(options)


def ask(call: Any, timeout_s: float = ANSWER_TIMEOUT_S) -> Any:
    """Wait for what the controller answers.

    Raises:
        MeshError: the one that it raised.
        Unavailable: no answer in time, or it died.
    """
    import ray

    try:
        return ray.get(call, timeout=timeout_s)
    except ray.exceptions.GetTimeoutError as error:
        raise Unavailable(f"the mesh's controller did not answer in {timeout_s:g} s") from error
    except ray.exceptions.RayActorError as error:
        raise Unavailable(f"the mesh's controller ended: {error}") from error
    except ray.exceptions.RayTaskError as error:
        # Ray's own error of that class carries a whole traceback as its message.
        raise (error.cause if isinstance(error.cause, MeshError) else error) from None


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
