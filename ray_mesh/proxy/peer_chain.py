"""The certificate chain of a TLS peer.

Python 3.11 verifies client certificates but hands out the leaf only; the whole chain is behind a
private call (public from 3.13 on). SPIFFE verification needs the intermediates, so this one module
reaches for them, and a test notices when an interpreter moves them.
"""

from __future__ import annotations

import ssl
from typing import Any

from ray_mesh.errors import PeerError

_DER = 2  # _ssl.ENCODING_DER


def peer_chain(connection: ssl.SSLObject) -> tuple[bytes, ...]:
    """The chain that the peer sent, leaf first, in DER. It is not verified here.

    Raises:
        PeerError: the peer sent no certificate.
    """
    public: Any = getattr(connection, "get_unverified_chain", None)
    if public is not None:
        chain = tuple(public())
    else:
        private: Any = connection._sslobj  # type: ignore[attr-defined]
        certificates = private.get_unverified_chain() or ()
        chain = tuple(certificate.public_bytes(_DER) for certificate in certificates)
    if not chain:
        raise PeerError("the peer sent no certificate")
    return chain
