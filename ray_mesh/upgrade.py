"""A mesh that runs becomes one of this version, in place: ``up`` of a newer package finds an older one."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from ray_mesh import __version__, cluster
from ray_mesh.actors.settings import MeshOptions
from ray_mesh.errors import ConfigError, Unavailable

NAME_FREE_TIMEOUT_S = 20.0
STEP_TIMEOUT_S = 90.0
"""For one actor: its successor starts, takes over, and the old one drains."""
POLL_S = 0.2


def check_is_older(mesh: str, running: str) -> None:
    """Refuse to go back: what a newer version stored may be unreadable for an older one.

    Raises:
        ConfigError: the running version is the newer one.
    """
    if _numbers(running) >= _numbers(__version__):
        raise ConfigError(
            f"mesh {mesh} runs version {running}, this is {__version__}: use the newer package, "
            "or take the mesh down first"
        )


def replace_controller(controller: Any, namespace: str) -> Any:
    """End the controller of the older version and start ours; the mesh goes on meanwhile.

    Raises:
        Unavailable: the old one does not let go. Repeating ``up`` goes on from there.
    """
    import ray

    options = MeshOptions.from_plain(cluster.ask(controller.hand_over.remote()))
    ray.kill(controller, no_restart=True)
    _wait(lambda: cluster.find_controller(namespace) is None, "the old controller does not end")
    return cluster.create_controller(options)


def wait_renewed(controller: Any) -> None:
    """Return when no actor of an older version is left.

    Raises:
        Unavailable: for a long time none was replaced; the message names those that are left.
    """
    left: list[str] = cluster.ask(controller.outdated.remote())
    give_up_at = time.monotonic() + STEP_TIMEOUT_S
    while left:
        time.sleep(POLL_S)
        now: list[str] = cluster.ask(controller.outdated.remote())
        if now != left:
            left, give_up_at = now, time.monotonic() + STEP_TIMEOUT_S
        elif time.monotonic() > give_up_at:
            raise Unavailable(f"still of the older version: {', '.join(left)}; `ray-mesh events` may say why")


def _wait(condition: Callable[[], bool], otherwise: str) -> None:
    give_up_at = time.monotonic() + NAME_FREE_TIMEOUT_S
    while not condition():
        if time.monotonic() > give_up_at:
            raise Unavailable(f"{otherwise} within {NAME_FREE_TIMEOUT_S:g} s")
        time.sleep(POLL_S)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(one) for one in re.findall(r"\d+", version)[:3])
