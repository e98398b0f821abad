"""Detached signatures: one purpose each, one key each."""

from __future__ import annotations

import copy
import pickle
from itertools import permutations

import pytest

from ray_mesh.errors import ConfigError, PeerError
from ray_mesh.security.sealed import RANDOM_SECRET_COST, seal
from ray_mesh.security.signing import PURPOSES, SigningKey, VerifyKey

KEY = SigningKey.generate()


@pytest.mark.parametrize("purpose", PURPOSES)
@pytest.mark.parametrize("data", [b"", b"policy", b"\0" * 10_000])
def test_round_trip(purpose: str, data: bytes) -> None:
    KEY.verify_key.verify(purpose, data, KEY.sign(purpose, data))
    VerifyKey(KEY.public).verify(purpose, data, KEY.sign(purpose, data))


@pytest.mark.parametrize(("made_for", "used_for"), list(permutations(PURPOSES, 2)))
def test_a_signature_serves_one_purpose(made_for: str, used_for: str) -> None:
    with pytest.raises(PeerError, match=used_for):
        KEY.verify_key.verify(used_for, b"data", KEY.sign(made_for, b"data"))


def test_no_purpose_is_the_beginning_of_another() -> None:
    domains = [f"ray-mesh/{purpose}/v1\0" for purpose in PURPOSES]
    assert not any(a.startswith(b) for a, b in permutations(domains, 2))


def test_unknown_purposes_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing is signed as"):
        KEY.sign("other", b"data")
    with pytest.raises(PeerError):
        KEY.verify_key.verify("other", b"data", KEY.sign("desired", b"data"))


def test_other_data_other_key_other_bytes() -> None:
    signature = KEY.sign("desired", b"data")
    with pytest.raises(PeerError):
        KEY.verify_key.verify("desired", b"datb", signature)
    with pytest.raises(PeerError):
        SigningKey.generate().verify_key.verify("desired", b"data", signature)


@pytest.mark.parametrize(
    "signature", ["", "AAAA", "!", "A" * 88, "\u00e9", KEY.sign("desired", b"data") + "\n"]
)
def test_things_that_are_no_signature(signature: str) -> None:
    with pytest.raises(PeerError):
        KEY.verify_key.verify("desired", b"data", signature)


@pytest.mark.parametrize("public", [b"", b"x" * 31, b"x" * 33])
def test_things_that_are_no_key(public: bytes) -> None:
    with pytest.raises(PeerError, match="not an Ed25519"):
        VerifyKey(public)


def test_sealing() -> None:
    envelope = KEY.seal(b"secret", RANDOM_SECRET_COST)
    assert SigningKey.unseal(envelope, b"secret").public == KEY.public
    with pytest.raises(ConfigError, match="passphrase is wrong"):
        SigningKey.unseal(envelope, b"other")
    with pytest.raises(ConfigError, match="does not hold a signing key"):
        SigningKey.unseal(seal(b"something", b"secret", RANDOM_SECRET_COST), b"secret")


def test_the_key_stays_inside() -> None:
    shown = repr(KEY) + str(KEY)
    assert KEY.public.hex()[:16] in shown
    assert len(shown) < 120
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="never leaves"):
            pickle.dumps(KEY, protocol)
    with pytest.raises(TypeError, match="never leaves"):
        copy.copy(KEY)


def test_the_public_half_travels() -> None:
    assert pickle.loads(pickle.dumps(KEY.verify_key)) == KEY.verify_key
    assert len({KEY.verify_key, VerifyKey(KEY.public)}) == 1
    assert KEY.public.hex()[:16] in repr(KEY.verify_key)
