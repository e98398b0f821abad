"""Proof that a request for a workload's certificate was made by the proxy that it names.

The subject of a request names a proxy, and the broker can be made to see to it that only this proxy
asks there. That is the broker's word: one that is not ours, that admits all proxies with one credential
or that is hostile, would let anybody ask as anybody. So the proxy signs what it asks for, with the key
whose hash the controller registered. A replay is harmless: the certificate is for the key in the request.
"""

from __future__ import annotations

import hmac

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from ray_mesh.errors import PolicyDenied
from ray_mesh.security.bundle import UNREADABLE
from ray_mesh.security.ca import public_key_sha256

_DOMAIN = b"ray-mesh/certificate-request/v1\0"


def public_der(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public half, as SubjectPublicKeyInfo in DER."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def prove(key: ec.EllipticCurvePrivateKey, proxy: str, workload: str, csr_der: bytes) -> bytes:
    """The proxy's signature over its request for the identity of ``workload``."""
    return key.sign(_statement(proxy, workload, csr_der), ec.ECDSA(hashes.SHA256()))


def check(key_sha256: bytes, key_der: bytes, proof: bytes, proxy: str, workload: str, csr_der: bytes) -> None:
    """Return if ``proof`` was made with the key that is registered for ``proxy`` by its hash.

    Raises:
        PolicyDenied: it was not.
    """
    refusal = PolicyDenied(
        f"the request for {workload} is not signed with the key that the controller registered for proxy"
        f" {proxy}: somebody else asks in its name, or it is of an older version and must be restarted"
    )
    try:
        key = load_der_public_key(key_der)
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise refusal
        if not hmac.compare_digest(public_key_sha256(key), key_sha256):
            raise refusal
        key.verify(proof, _statement(proxy, workload, csr_der), ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, UnsupportedAlgorithm, *UNREADABLE) as error:
        raise refusal from error


def _statement(proxy: str, workload: str, csr_der: bytes) -> bytes:
    """Each part with its length in front, so that no two requests have the same bytes."""
    parts = (proxy.encode(), workload.encode(), csr_der)
    return _DOMAIN + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
