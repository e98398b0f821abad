"""ProxyActor: a proxy process with a Ray life. The proxy itself is :mod:`ray_mesh.agent`."""

from __future__ import annotations

import asyncio
import logging
import os
import socket

from ray_mesh import __version__
from ray_mesh.actors.settings import Description, Prepared, RoleSettings
from ray_mesh.agent import handover
from ray_mesh.agent.proxy import AgentSettings, ProxyAgent
from ray_mesh.bus.credentials import BrokerAddress
from ray_mesh.errors import Unavailable
from ray_mesh.proxy.vitals import freeze

log = logging.getLogger(__name__)

DRAIN_S = 2.0
RETIRE_S = 5.0
"""What a client has to learn, from a response, that its connection ends; then idle ones are closed."""


class ProxyActor:
    """Hosts one data plane on a node. Started by the controller in the order prepare, attest, serve."""

    def __init__(self, settings: RoleSettings) -> None:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._settings = settings
        self._agent = ProxyAgent(
            AgentSettings(
                name=settings.instance,
                node=settings.node,
                address=settings.node_address,
                trust_domain=settings.options.trust_domain,
                root_der=settings.keys.root_der,
                compiled_public=settings.keys.compiled_public,
            )
        )

    async def prepare(self) -> Prepared:
        """Public halves of the broker credential, of the identity key and of the letterbox."""
        agent = self._agent
        return Prepared(agent.nkey_public, agent.identity_key_sha256, agent.letterbox)

    async def attest(self, address: BrokerAddress, letter: bytes = b"") -> tuple[bytes, ...]:
        """Connect with the narrow credential and get the proxy's own certificate (chain, public).

        ``letter`` is the credential for a NATS that is not ours, encrypted to the letterbox.
        """
        return await self._agent.attest(address, letter)

    async def serve(self, inbound_port: int, offer: str = "") -> Description:
        """Carry traffic. ``inbound_port`` is the node's mTLS port, 0 for the node's first proxy.

        ``offer`` names the sockets of a proxy whose place this one takes; without them it binds its own.
        """
        await self._agent.serve(inbound_port, await self._fetch(offer))
        freeze()
        return await self.describe()

    async def describe(self) -> Description:
        """What this actor is and whether its loops run."""
        problem = self._agent.check()
        return Description(
            role="proxy",
            instance=self._settings.instance,
            version=__version__,
            pid=os.getpid(),
            healthy=not problem,
            detail=problem,
            inbound_port=self._agent.inbound_port,
        )

    async def offer(self) -> str:
        """Hold the listening sockets ready for the proxy that takes this one's place."""
        return await self._agent.offer()

    async def retire(self) -> None:
        """End when all clients have gone over to the node's other proxies, or after a while."""
        await self._agent.drain(DRAIN_S, RETIRE_S)
        await self._agent.stop()

    async def stop(self) -> None:
        """Drain for a moment, then end."""
        await self._agent.drain(DRAIN_S)
        await self._agent.stop()

    async def _fetch(self, offer: str) -> list[socket.socket]:
        if not offer:
            return []
        try:
            return await asyncio.to_thread(handover.fetch, offer)
        except Unavailable as error:
            log.warning("binding sockets of its own: %s", error)
            return []
