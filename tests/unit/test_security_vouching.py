"""What a resource says of the beacon behind it, and that nothing else passes for it."""

from __future__ import annotations

import pytest

from ray_mesh.errors import PeerError
from ray_mesh.security.signing import SigningKey
from ray_mesh.security.vouching import fingerprint, vouch, vouched

KEY = SigningKey.generate()
BEACON = fingerprint(b"a beacon", KEY.sign("beacon", b"a beacon"))
SAID = vouch(KEY, b"a resource", BEACON)
NAME, SIGNATURE = SAID.split()
OTHER, _ = vouch(KEY, b"a resource", fingerprint(b"another", "s")).split()


def test_who_checks_the_resource_knows_the_beacon() -> None:
    assert vouched(KEY.verify_key, b"a resource", SAID) == BEACON


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"another", SAID),
        (b"a resource", vouch(SigningKey.generate(), b"a resource", BEACON)),
        (b"a resource", f"{OTHER} {SIGNATURE}"),
        (b"a resource", f"{NAME} " + KEY.sign("compiled", b"a resource")),
        (b"a resource", vouch(KEY, BEACON[16:] + b"a resource", BEACON[:16])),
        (BEACON[16:] + b"a resource", vouch(KEY, b"a resource", BEACON)),
        (b"a resource", NAME),
        (b"a resource", "? " + SAID),
        (b"a resource", ""),
    ],
)
def test_nothing_else_vouches_for_anything(value: bytes, said: str) -> None:
    with pytest.raises(PeerError):
        vouched(KEY.verify_key, value, said)


def test_a_fingerprint_is_of_one_payload_and_one_signature() -> None:
    made = {
        fingerprint(data, signature) for data in (b"", b"a", b"a b") for signature in ("", "a", "b", "a b")
    }
    assert len(made) == 12
