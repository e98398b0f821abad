"""GatewayActor: the API of the mesh. The service itself is :mod:`ray_mesh.gateway`."""

from __future__ import annotations

import asyncio
import logging
import ssl
from dataclasses import replace

from ray_mesh.actors.role import Role
from ray_mesh.actors.settings import Description, why_no_sidecars
from ray_mesh.gateway.listening import server_tls
from ray_mesh.gateway.service import GatewayConfig, GatewayService

log = logging.getLogger(__name__)

READ_AGAIN_S = 60.0


class GatewayActor(Role):
    """One of N API servers on one port."""

    async def run(self) -> None:
        """Serve the API."""
        settings = self.settings
        address = settings.options.api
        tls = None if address.is_local else server_tls(*self.state_dir.api_certificate())
        self._service = GatewayService(
            self.bus,
            GatewayConfig(
                instance=settings.instance,
                port=settings.api_port,
                token_sha256=settings.keys.token_sha256,
                compiled_public=settings.keys.compiled_public,
                address=address,
                tls=tls,
                no_sidecars=why_no_sidecars(settings.options),
            ),
            self.state_dir.signing_key("admission"),
        )
        await self._service.start()
        if tls is not None:
            self.spawn(self._renew(tls), "certificate")

    async def _renew(self, tls: ssl.SSLContext) -> None:
        """Show new clients the certificate that the controller made last."""
        while True:
            await asyncio.sleep(READ_AGAIN_S)
            try:
                tls.load_cert_chain(*self.state_dir.api_certificate())
            except OSError as error:  # between the writing of key and certificate they do not match
                log.warning("the API's certificate is read again in a minute: %s", error)

    async def close(self) -> None:
        """Stop serving."""
        await self._service.stop()

    async def describe(self) -> Description:
        """What this actor is, with the port of the API."""
        return replace(await super().describe(), api_port=self._service.port)
