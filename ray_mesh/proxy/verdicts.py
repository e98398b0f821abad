"""Chains that were verified already: peers connect again with the certificate they had.

Each handshake proves that the peer holds the key; the signatures of its chain need no second look while
the roots are the same. A verdict never outlives a certificate that it rests on, and counts for nothing
before the moment at which it was made, should the clock be set back.
"""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509

from ray_mesh.security.identity import SpiffeId

MOST = 1024
_NAME_AND_TIMES = tuple[SpiffeId, float, float]


class Verdicts:
    """Identities by chain, for one set of roots; times are seconds since 1970."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, ...], _NAME_AND_TIMES] = {}

    def find(self, chain: tuple[bytes, ...], now: float) -> SpiffeId | None:
        """Whom the chain proves at ``now``, if that was found out before."""
        known = self._known.get(chain)
        return known[0] if known is not None and known[1] <= now < known[2] else None

    def keep(
        self, chain: tuple[bytes, ...], identity: SpiffeId, roots: Iterable[x509.Certificate], now: float
    ) -> None:
        """Remember what was verified at ``now`` under these roots."""
        if len(self._known) >= MOST:
            self._known.clear()
        certificates = [x509.load_der_x509_certificate(der) for der in chain]
        ends = [each.not_valid_after_utc.timestamp() for each in (*certificates, *roots)]
        self._known[chain] = (identity, now, min(end for end in ends if end > now))
