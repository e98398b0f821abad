"""One worker of a node, as a process: its admin port goes to standard output, it ends with standard input."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time

import uvloop
from proxy_mesh import TOKEN, TRUST_DOMAIN, Mesh

from ray_mesh import snapshot
from ray_mesh.proxy.plane import DataPlane, PlaneConfig
from ray_mesh.security.ca import Authority
from ray_mesh.security.identity import for_workload

KEY = "workload.default.caller"


def workload(outbound_port: int, app_port: int) -> snapshot.Workload:
    """What every worker of the node serves."""
    return snapshot.Workload(
        namespace="default",
        name="caller",
        node="one",
        service_account="caller",
        identity=str(for_workload(TRUST_DOMAIN, "default", "caller")),
        sni="caller.default.workload.mesh",
        labels=(("app", "caller"),),
        app_address="127.0.0.1",
        app_port=app_port,
        outbound_port=outbound_port,
        token_sha256=hashlib.sha256(TOKEN.encode()).digest(),
    )


async def serve(inbound_port: int, outbound_port: int, shares_load: bool) -> None:
    """Until standard input ends."""
    root = Authority.create_root(TRUST_DOMAIN, time.time())
    mesh = Mesh(root, root.create_intermediate(time.time()))
    config = PlaneConfig("w", "one", TRUST_DOMAIN, inbound_port=inbound_port, shares_load=shares_load)
    plane = DataPlane(config)
    plane.bind()
    plane.set_bundles(mesh.bundles)
    plane.apply(KEY, workload(outbound_port, 1))
    plane.set_identity(KEY, mesh.svid("caller"))
    while KEY not in plane.ready():
        await asyncio.sleep(0.01)
    await plane.accept()
    print(plane.admin_port, flush=True)
    loop = asyncio.get_running_loop()
    questions = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(questions), sys.stdin)
    while line := await questions.readline():
        if line == b"drain\n":
            await plane.drain(5.0)
            print("drained", flush=True)
    await plane.stop()


if __name__ == "__main__":
    inbound, outbound, shares = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(inbound), int(outbound), shares == "shares"))
