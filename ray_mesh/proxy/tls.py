"""TLS for the mesh: TLS 1.3, HTTP/1.1, HTTP/2 or TCP by ALPN, certificates on both sides, no resumption.

OpenSSL checks that the chain ends at any root we know; who the peer is, and whether its own trust
domain vouches for it, is decided after the handshake with :func:`ray_mesh.security.svid.verify_svid`.
Sessions are never resumed, since a resumed one would skip that.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Protocol

from cryptography import x509

from ray_mesh.errors import PeerError
from ray_mesh.proxy.peer_chain import peer_chain
from ray_mesh.proxy.verdicts import MOST, Verdicts
from ray_mesh.security.bundle import Bundle
from ray_mesh.security.identity import SpiffeId
from ray_mesh.security.svid import Svid, verify_svid

ALPN = "http/1.1"
HTTP2_ALPN = "h2"
TCP_ALPN = "ray-mesh-tcp/1"
"""A connection that is not HTTP, see :mod:`.tcp_wire`."""
EXPIRY_MARGIN_S = 5.0
EXPIRY_MARGIN_SHARE = 0.1
"""Connections are given up so long before a certificate of theirs expires: 5 s, or a tenth of what is
left when that is shorter."""


class Proven(Protocol):
    """A connection that lives as long as its peer is trusted."""

    def verify(self) -> None:
        """The trust changed: close when who the peer proved to be would not be believed any more."""


class Trust:
    """The bundles in force. ``generation`` grows when they change; ``proven`` are looked at again then."""

    def __init__(self) -> None:
        self.proven: set[Proven] = set()
        self.bundles: Mapping[str, Bundle] = {}
        self.generation = 0
        self._verdicts = Verdicts()

    def replace(self, bundles: Mapping[str, Bundle]) -> None:
        """Take new bundles into force."""
        self.bundles = dict(bundles)
        self.generation += 1
        self._verdicts = Verdicts()
        for connection in tuple(self.proven):
            connection.verify()

    def verify(self, chain: tuple[bytes, ...]) -> SpiffeId:
        """Who the peer with this chain is. Raises PeerError."""
        now = time.time()
        identity = self._verdicts.find(chain, now)
        if identity is None:
            identity = verify_svid(chain, self.bundles, now)
            self._verdicts.keep(chain, identity, self.bundles[identity.trust_domain].roots, now)
        return identity

    def vouches(self, chain: tuple[bytes, ...], at: float) -> bool:
        """Whether a chain that was accepted at a time (wall clock) would be so under these bundles."""
        try:
            verify_svid(chain, self.bundles, at)
        except PeerError:
            return False
        return True

    def load_into(self, context: ssl.SSLContext) -> None:
        """Make a new context accept the roots of all bundles."""
        roots = "".join(bundle.pem() for bundle in self.bundles.values())
        if roots:
            context.load_verify_locations(cadata=roots)


class Identity:
    """One workload's certificate in use, with the contexts that present it."""

    __slots__ = ("client", "expires_at", "http2_client", "server", "svid", "tcp_client", "trust")

    def __init__(self, svid: Svid, trust: Trust) -> None:
        self.svid = svid
        self.trust = trust
        self.expires_at = deadline(svid.expires_at)
        self.server = server_context(trust)
        self.client = client_context(trust, ALPN)
        self.http2_client = client_context(trust, HTTP2_ALPN, ALPN)
        self.tcp_client = client_context(trust, TCP_ALPN)
        for context in (self.server, self.client, self.http2_client, self.tcp_client):
            load_svid(context, svid)


def deadline(expires_at: float, margin: bool = True) -> float:
    """When (monotonic) to stop using something that expires at ``expires_at`` (wall clock)."""
    left_s = expires_at - time.time()
    if margin:
        left_s -= min(EXPIRY_MARGIN_S, max(left_s, 0.0) * EXPIRY_MARGIN_SHARE)
    return time.monotonic() + left_s


def server_context(trust: Trust) -> ssl.SSLContext:
    """A server's context without certificate: it always asks for the client's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    return _tighten(context, trust, HTTP2_ALPN, ALPN, TCP_ALPN)


def client_context(trust: Trust, *protocols: str) -> ssl.SSLContext:
    """A client's context without certificate. Names are checked as SPIFFE IDs, not as host names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    return _tighten(context, trust, *protocols)


def _tighten(context: ssl.SSLContext, trust: Trust, *protocols: str) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(list(protocols))
    trust.load_into(context)
    return context


def load_svid(context: ssl.SSLContext, svid: Svid) -> None:
    """Give a context its certificate. The key passes through anonymous memory, never through a file."""
    fd = os.memfd_create("svid", os.MFD_CLOEXEC)
    try:
        remaining = memoryview(svid.key_pem() + svid.chain_pem())
        while remaining:
            remaining = remaining[os.write(fd, remaining) :]
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def verified_peer(
    connection: ssl.SSLObject, trust: Trust, protocol: str = ALPN
) -> tuple[SpiffeId, tuple[bytes, ...]]:
    """The peer's identity and chain, after a handshake.

    Raises:
        PeerError: the peer does not speak the protocol by ALPN, or its certificate is not acceptable.
    """
    negotiated = connection.selected_alpn_protocol()
    if negotiated != protocol:
        raise PeerError(f"the peer negotiated {negotiated!r} by ALPN, not {protocol}")
    chain = peer_chain(connection)
    return trust.verify(chain), chain


def chain_deadline(chain: tuple[bytes, ...], margin: bool = True) -> float:
    """When (monotonic) to stop using a peer's chain, see :func:`deadline`."""
    return deadline(_chain_end(chain), margin)


@lru_cache(maxsize=MOST)
def _chain_end(chain: tuple[bytes, ...]) -> float:
    return min(x509.load_der_x509_certificate(der).not_valid_after_utc.timestamp() for der in chain)
