"""A gateway on a real broker, and parts that speak to it as routing, proxies and collectors do."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bus_broker import Broker, running_broker

from ray_mesh.bus import subjects
from ray_mesh.bus.client import Bus, Message
from ray_mesh.bus.follower import Follower
from ray_mesh.bus.messages import (
    SIGNATURE_HEADER,
    Beacon,
    ControlReply,
    EdgesReply,
    EdgesRequest,
    ProxyLease,
    Rejection,
    ReserveReply,
    ReserveRequest,
    RoleLease,
    decode,
    encode,
)
from ray_mesh.bus.store import Entry
from ray_mesh.gateway.service import GatewayConfig, GatewayService
from ray_mesh.sdk.client import AsyncMesh
from ray_mesh.sdk.state import Broker as BrokerState
from ray_mesh.sdk.state import MeshState
from ray_mesh.security.signing import SigningKey
from ray_mesh.telemetry.series import Series

TOKEN = "token-of-a-test"
NODE = "n1"


@dataclass
class Peers:
    """One routing shard, one proxy and one collector, as heard on the bus.

    They go through desired state as it is stored: the shard says it compiled it, the proxy says it
    applied it and serves its node's workloads, until a test holds one of them back.
    """

    routing: Bus
    proxy: Bus
    telemetry: Bus
    signing: SigningKey
    number: int = 0
    through: int = 0
    is_applying: bool = True
    workloads: set[str] = field(default_factory=set)
    rejected: tuple[Rejection, ...] = ()
    series: tuple[Series, ...] = ()
    next_port: int = 21000
    reserve_error: str = ""
    applied: int = 0

    async def start(self) -> asyncio.Task[None]:
        follower = Follower(self.routing, subjects.DESIRED_BUCKET, self._heard)
        await follower.start()
        await follower.synced()
        await self.proxy.serve(subjects.reserve(NODE), self._reserve)
        await self.telemetry.serve(subjects.query("t0"), self._answer)
        return asyncio.create_task(self._beat())

    def _heard(self, entry: Entry) -> None:
        self.through = entry.revision
        if entry.key.startswith("workload."):
            self.workloads.add(entry.key)
        self.beat()

    async def _reserve(self, message: Message) -> bytes:
        request = decode(ReserveRequest, message.data)
        if self.reserve_error:
            return encode(ReserveReply(error=self.reserve_error))
        self.next_port += 1
        bound = tuple((number, port or 21900) for number, port in request.gateway_ports)
        return encode(ReserveReply(self.next_port, bound))

    async def _answer(self, message: Message) -> bytes:
        assert decode(EdgesRequest, message.data).window_s >= 0
        return encode(EdgesReply("t0", 10.0, self.series, ("p0",), lost_reports=2))

    def beat(self) -> None:
        """Say everything there is to say, now."""
        self.number += 1
        if self.is_applying:
            self.applied = self.number
        for bus, role, instance in ((self.routing, "routing", "r0"), (self.telemetry, "telemetry", "t0")):
            bus.publish(subjects.role(role, instance), encode(RoleLease(role, instance, "e", "0.1.0", 1)))
        beacon = encode(Beacon("r0", self.number, time.time(), self.through, ("r0",), {"mesh.mesh.mesh": 1}))
        headers = {SIGNATURE_HEADER: self.signing.sign("beacon", beacon)}
        self.routing.publish(subjects.beacon("r0"), beacon, headers)
        self.proxy.publish(subjects.lease("p0"), encode(self.lease()))

    def lease(self) -> ProxyLease:
        return ProxyLease(
            proxy="p0",
            epoch="e",
            node=NODE,
            address="127.0.0.1",
            inbound_port=15006,
            version="0.1.0",
            state="HEALTHY",
            ready=tuple(sorted(self.workloads)) if self.is_applying else (),
            applied={"r0": self.applied},
            rejected=self.rejected,
            pid=1,
            svid_expires_at=time.time() + 3600,
        )

    async def _beat(self) -> None:
        while True:
            self.beat()
            await asyncio.sleep(0.2)


@dataclass
class Gateway:
    """What a test drives."""

    broker: Broker
    service: GatewayService
    peers: Peers
    admission: SigningKey
    mesh: AsyncMesh
    controls: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.service.port}"


def state_of(port: int, token: str = TOKEN) -> MeshState:
    """A state file's content for a gateway on ``port``."""
    return MeshState(
        name="test",
        version="0.1.0",
        api=f"http://127.0.0.1:{port}",
        token=token,
        pid=0,
        ingress={},
        broker=BrokerState("", ""),
        state_dir="",
        node=NODE,
    )


@asynccontextmanager
async def running_gateway(folder: Path) -> AsyncIterator[Gateway]:
    """A broker with a gateway that serves, peers that beat, and a client."""
    async with running_broker(folder) as broker:
        admission, compiled = SigningKey.generate(), SigningKey.generate()
        peers = Peers(
            routing=await broker.join("routing", "r0"),
            proxy=await broker.join("proxy", "p0", NODE),
            telemetry=await broker.join("telemetry", "t0"),
            signing=compiled,
        )
        controls: list[str] = []
        controller = await broker.join("controller", "c0")

        async def control(message: Message) -> bytes:
            controls.append(subjects.last_token(message.subject))
            return encode(ControlReply("0.1.0", nodes=(NODE,)))

        await controller.serve(subjects.control("status"), control)
        await controller.serve(subjects.control("down"), control)
        service = await start_service(broker, "g0", 0, admission, compiled)
        beating = await peers.start()
        mesh = AsyncMesh(state_of(service.port))
        try:
            yield Gateway(broker, service, peers, admission, mesh, controls)
        finally:
            await mesh.close()
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
            await service.stop()


async def start_service(
    broker: Broker, instance: str, port: int, admission: SigningKey, compiled: SigningKey
) -> GatewayService:
    """One replica of a gateway on ``port``."""
    config = GatewayConfig(instance, port, hashlib.sha256(TOKEN.encode()).hexdigest(), compiled.public)
    service = GatewayService(await broker.join("gateway", instance), config, admission)
    await service.start()
    return service
