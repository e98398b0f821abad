"""A NATS that is somebody's own: where it is, what its credentials share, and the buckets there.

The embedded broker gives every role and proxy a credential with exact allow-lists. Here there are two at
most: one for the roles, one for all proxies, in two accounts (:data:`ray_mesh.bus.permissions.EXPORTS`).
With a single one, roles and proxies are in one account. :meth:`ExternalNats.shared` says what the mesh then
lacks, :mod:`ray_mesh.bus.preflight` looks at all of it before anything is started.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from ray_mesh.bus.client import Bus
from ray_mesh.bus.connection import is_plain_loopback, split_servers
from ray_mesh.bus.credentials import BrokerAddress
from ray_mesh.bus.store import Entry, Owner, ensure_buckets
from ray_mesh.errors import ConfigError, Unavailable

MOST_REPLICAS = 3
MAKE_TIMEOUT_S = 20.0
"""A cluster that just started elects leaders first."""
RETRY_S = 0.5
HOW = "`ray-mesh nats-accounts` prints the accounts and allow-lists that are needed (docs/nats.md)"

SHARED_BY_PROXIES = (
    "all proxies, sidecars too, have one NATS credential: whoever takes over one of them can read the"
    " compiled configuration of every node, and send leases, telemetry, events, quota requests and answers to"
    " port reservations in the name of any proxy, and so make endpoints unreachable and figures wrong"
)
SHARED_BY_ALL = (
    "roles and proxies have one NATS credential: whoever takes over a proxy can also end the mesh, delete its"
    " buckets, bring back older configuration that was signed once, and read all of it. Sidecars are refused."
    " --nats-proxy-creds gives proxies an account of their own"
)
PROTECTED = (
    "identities, certificates and the content of configuration do not rest on NATS: they are signed, and"
    " bound to keys that each proxy made"
)


@dataclass(frozen=True, slots=True)
class ExternalNats:
    """Where it is; nothing secret. ``ca_pem`` empty: the machine's roots. ``replicas`` of the buckets, 0:
    three on a cluster, else one. ``has_proxy_login``: proxies have a credential of their own account.

    Raises:
        ConfigError: an address that cannot be used, or may not: without TLS off loopback.
    """

    url: str
    ca_pem: str = ""
    replicas: int = 0
    has_proxy_login: bool = False

    def __post_init__(self) -> None:
        for server in split_servers(self.url):
            parts = urlsplit(server)
            if parts.username is not None or parts.password is not None:
                raise ConfigError(
                    f"{parts.scheme}://{parts.hostname}: a credential does not belong in the address, where"
                    " other users of this machine see it: --nats-creds names a private file"
                )
            if not parts.hostname:
                raise ConfigError(f"NATS address {server!r}: write tls://host:port, several with commas")
            if parts.scheme == "nats" and not is_plain_loopback(server):
                raise ConfigError(
                    f"{server}: without TLS whoever is on the way reads credentials and changes what proxies"
                    f" are told. Turn TLS on in that NATS and write tls://{parts.netloc}; nats:// is for"
                    " loopback only"
                )

    @property
    def address(self) -> BrokerAddress:
        """As the bus takes it."""
        return BrokerAddress(self.url, self.ca_pem, embedded=False)

    def shared(self) -> tuple[str, ...]:
        """What is shared that the embedded broker would keep apart, as sentences for people."""
        if self.has_proxy_login:
            return (f"{SHARED_BY_PROXIES}; {PROTECTED}",)
        return (f"{SHARED_BY_PROXIES}; {PROTECTED}", SHARED_BY_ALL)


async def make_buckets(bus: Bus, nats: ExternalNats, owner: Owner, desired: Sequence[Entry] = ()) -> bool:
    """Create what the mesh keeps there, or bring it up to date; what is lost is restored from ``desired``.

    Returns whether it was.

    Raises:
        ConfigError: the buckets of another mesh are there.
        Unavailable: it cannot; the message says why and what to do.
    """
    replicas = nats.replicas or (MOST_REPLICAS if bus.facts.get("cluster") else 1)
    give_up_at = asyncio.get_running_loop().time() + MAKE_TIMEOUT_S
    while True:
        try:
            return await ensure_buckets(bus, replicas, desired, owner)
        except Unavailable as error:
            if asyncio.get_running_loop().time() > give_up_at:
                raise Unavailable(
                    f"{nats.url}: {error}. The mesh keeps three buckets with {replicas} replicas: that many"
                    " JetStream servers must run (--nats-replicas), and the account's limits allow it"
                ) from error
        await asyncio.sleep(RETRY_S)
