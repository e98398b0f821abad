"""A sidecar's requests to the API: with its join token once, then with the session that it got."""

from __future__ import annotations

import base64
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ray_mesh.agent.proxy import ProxyKeys
from ray_mesh.bus.credentials import BrokerAddress
from ray_mesh.sdk.attachment import Ticket
from ray_mesh.sdk.transport import Transport
from ray_mesh.security.ca import chain_pem

TIMEOUT_S = 15.0
ATTACH_TIMEOUT_S = 45.0
END_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Joined:
    """What the mesh told the sidecar. ``session`` proves it from now on."""

    proxy: str
    trust_domain: str
    root_der: bytes
    compiled_public: bytes
    broker: BrokerAddress
    letter: bytes = field(repr=False)
    session: str = field(repr=False)


async def join(api: str, token: str, account: str, node: str, keys: ProxyKeys, root_pem: str = "") -> Joined:
    """Use a join token up to have the proxy with these keys admitted. ``root_pem`` verifies an API of https.

    Raises:
        ConfigError: the API is on another machine and there is nothing to verify it with.
        Unauthenticated: there is no such token.
        PolicyDenied: it was used, is expired, or is for another service account.
        Conflict: another sidecar has the node's name.
        Unavailable: the mesh does not answer.
    """
    transport = Transport(api, token, _author(), TIMEOUT_S, root_pem)
    body = {
        "serviceAccount": account,
        "node": node,
        "nkey": keys.nkey_public,
        "identityKeySha256": base64.b64encode(keys.identity_key_sha256).decode(),
        "letterbox": base64.b64encode(keys.letterbox.public).decode(),
    }
    try:
        answer = await transport.send("POST", "/v1/join", body=body)
    finally:
        await transport.close()
    root_der = base64.b64decode(answer["root"])
    return Joined(
        proxy=answer["proxy"],
        trust_domain=answer["trustDomain"],
        root_der=root_der,
        compiled_public=base64.b64decode(answer["compiledPublic"]),
        broker=_broker(answer, root_der),
        letter=base64.b64decode(answer["letter"]),
        session=answer["session"],
    )


class Session:
    """A joined sidecar's further requests. Each raises a MeshError; Unavailable when the mesh is away."""

    def __init__(self, api: str, session: str, root_pem: str = "") -> None:
        self._transport = Transport(api, session, _author(), TIMEOUT_S, root_pem)

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def attest(self, chain: Sequence[bytes]) -> None:
        """Show the proxy's certificate and get the full broker credential for it."""
        body = {"chain": [base64.b64encode(der).decode() for der in chain]}
        await self._transport.send("POST", "/v1/sidecar/attest", body=body)

    async def attach(
        self, namespace: str, service: str, version: str, port: int, options: Mapping[str, Any]
    ) -> Ticket:
        """Run the app on loopback ``port`` as a workload of ``service``. ``options`` may have a ``name``,
        ``protocol``, ``weight``, ``locality`` and ``probe``; what is empty is left out."""
        body: dict[str, Any] = {"service": service, "version": version, "port": port}
        body.update({name: value for name, value in options.items() if value})
        answer = await self._transport.send(
            "POST", "/v1/sidecar/workload", body=body, timeout_s=ATTACH_TIMEOUT_S
        )
        return Ticket(
            workload=answer["workload"],
            namespace=namespace,
            name=answer["name"],
            node=answer["node"],
            http_proxy=answer["http_proxy"],
            outbound_port=answer["outbound_port"],
            gateway_ports=answer["gateway_ports"],
            revision=answer["revision"],
        )

    async def detach(self) -> None:
        """Take the workload out; the proxy stays to finish what it has."""
        await self._transport.send("DELETE", "/v1/sidecar/workload", timeout_s=END_TIMEOUT_S)

    async def leave(self) -> None:
        """End the proxy's registration and this session."""
        await self._transport.send("DELETE", "/v1/sidecar", timeout_s=END_TIMEOUT_S)


def _broker(answer: Mapping[str, Any], root_der: bytes) -> BrokerAddress:
    if answer["brokerIsOurs"]:
        return BrokerAddress(answer["broker"], chain_pem([root_der]).decode())
    return BrokerAddress(answer["broker"], answer["brokerCa"], embedded=False)


def _author() -> str:
    return f"sidecar@{socket.gethostname()}".encode("ascii", "replace").decode()
