"""One RoutingActor, TelemetryActor or GatewayActor as a process of its own, without Ray.

Takes its settings as JSON, prints the public half of its broker credential, starts when it reads a line,
says so, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import sys
from pathlib import Path

from ray_mesh.actors.role import Role
from ray_mesh.actors.secrets import StateDir
from ray_mesh.actors.settings import MeshKeys, MeshOptions, RoleSettings
from ray_mesh.bus.credentials import BrokerAddress

ROLES = {
    "routing": "routing.RoutingActor",
    "telemetry": "telemetry.TelemetryActor",
    "gateway": "gateway.GatewayActor",
}
"""Imported by who is one: starting is measured, too."""


async def main(role: str, instance: str, folder: str, url: str) -> None:
    """Be one replica."""
    logging.disable(logging.WARNING)
    state_dir = StateDir(Path(folder))
    keys = MeshKeys(
        root_der=b"",
        admission_public=state_dir.signing_key("admission").public,
        compiled_public=state_dir.signing_key("compiled").public,
        token_sha256="",
    )
    options = MeshOptions(state_dir=state_dir.path)
    module, _, name = ROLES[role].partition(".")
    made: type[Role] = getattr(importlib.import_module(f"ray_mesh.actors.{module}"), name)
    actor = made(RoleSettings(role, instance, "bench", "127.0.0.1", options, keys))
    print((await actor.prepare()).nkey_public, flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await actor.start(BrokerAddress(url, state_dir.root_pem()))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await actor.stop()


if __name__ == "__main__":
    asyncio.run(main(**json.loads(sys.argv[1])))
