"""GatewayActor: the API of the mesh. The service itself is :mod:`ray_mesh.gateway`."""

from __future__ import annotations

from dataclasses import replace

from ray_mesh.actors.role import Role
from ray_mesh.actors.settings import Description, why_no_sidecars
from ray_mesh.gateway.listening import server_tls
from ray_mesh.gateway.service import GatewayConfig, GatewayService


class GatewayActor(Role):
    """One of N API servers on one port."""

    async def run(self) -> None:
        """Serve the API."""
        settings = self.settings
        address = settings.options.api
        self._service = GatewayService(
            self.bus,
            GatewayConfig(
                instance=settings.instance,
                port=settings.api_port,
                token_sha256=settings.keys.token_sha256,
                compiled_public=settings.keys.compiled_public,
                address=address,
                tls=None if address.is_local else server_tls(*self.state_dir.api_certificate()),
                no_sidecars=why_no_sidecars(settings.options),
            ),
            self.state_dir.signing_key("admission"),
        )
        await self._service.start()

    async def close(self) -> None:
        """Stop serving."""
        await self._service.stop()

    async def describe(self) -> Description:
        """What this actor is, with the port of the API."""
        return replace(await super().describe(), api_port=self._service.port)
