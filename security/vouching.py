"""A compiled resource can vouch for the beacon that is to tell of it: who checks the one signature need not
check the other (ADR 14). It is said beside the resource, with a signature over both, so who does not know of
it reads the resource as ever.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from ray_mesh.errors import PeerError
from ray_mesh.security.signing import SigningKey, VerifyKey

_PURPOSE = "vouching"


def fingerprint(data: bytes, signature: str) -> bytes:
    """Names one signed message. The signature is part of it: nobody but its signer can have the message of a
    fingerprint before it is sent, however well its content can be guessed."""
    return hashlib.sha256(f"{len(signature)} {signature} ".encode() + data).digest()


def vouch(key: SigningKey, value: bytes, beacon: bytes) -> str:
    """What goes beside ``value`` to say that it is genuine, and so is the beacon of this fingerprint."""
    return f"{base64.b64encode(beacon).decode('ascii')} {key.sign(_PURPOSE, beacon + value)}"


def vouched(key: VerifyKey, value: bytes, said: str) -> bytes:
    """The fingerprint that is vouched for by what stands beside a value, which is genuine then.

    Raises:
        PeerError: it was not said by this mesh's key, or of another value.
    """
    encoded, _, signature = said.partition(" ")
    try:
        beacon = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise PeerError(f"what vouches for a beacon is not base64: {error}") from error
    if len(beacon) != hashlib.sha256().digest_size:
        raise PeerError(f"{len(beacon)} bytes name no beacon")
    key.verify(_PURPOSE, beacon + value, signature)
    return beacon
