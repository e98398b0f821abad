"""Whatever bytes a peer or a disk hands over, only errors of ours come out."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_mesh.errors import ConfigError, PeerError
from ray_mesh.security.bundle import Bundle
from ray_mesh.security.ca import Authority, requested_key
from ray_mesh.security.identity import for_workload
from ray_mesh.security.sealed import RANDOM_SECRET_COST, seal, unseal
from ray_mesh.security.signing import SigningKey
from ray_mesh.security.svid import csr, new_key, verify_svid

NOW = 1_750_000_000.0
ROOT = Authority.create_root("mesh.local", NOW)
ISSUING = ROOT.create_intermediate(NOW)
CHAIN = ISSUING.issue(csr(new_key()), for_workload("mesh.local", "a", "b"), 3600, NOW)
BUNDLES = {"mesh.local": ROOT.bundle()}
REQUEST = csr(new_key())
ENVELOPE = seal(b"secret", b"passphrase", RANDOM_SECRET_COST)
VERIFY = SigningKey.generate().verify_key

# A reader may warn of a certificate that it goes on to refuse.
pytestmark = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")

changes = st.tuples(st.integers(0, 2000), st.integers(1, 255))


def changed(raw: bytes, change: tuple[int, int]) -> bytes:
    position, mask = change[0] % len(raw), change[1]
    return raw[:position] + bytes([raw[position] ^ mask]) + raw[position + 1 :]


@given(changes)
@settings(max_examples=300, deadline=None)
def test_a_leaf_with_a_changed_byte_proves_nothing(change: tuple[int, int]) -> None:
    try:
        verify_svid([changed(CHAIN[0], change), CHAIN[1]], BUNDLES, NOW)
    except PeerError:
        return
    raise AssertionError("a changed certificate was accepted")


def test_bits_of_a_signature_that_are_said_to_be_unused_are_refused() -> None:
    """It is read as the same signature where the bit is 0, as of every other one it is."""
    identity = for_workload("mesh.local", "a", "b")
    chains = (ISSUING.issue(csr(new_key()), identity, 3600, NOW) for _ in range(64))
    issued = next(der for der, *_ in chains if not x509.load_der_x509_certificate(der).signature[-1] & 1)
    signature = x509.load_der_x509_certificate(issued).signature
    at = len(issued) - len(signature) - 1
    assert issued[at] == 0
    verify_svid([issued, CHAIN[1]], BUNDLES, NOW)
    with pytest.raises(PeerError, match="whole number of bytes"):
        verify_svid([issued[:at] + b"\x01" + issued[at + 1 :], CHAIN[1]], BUNDLES, NOW)


@given(changes)
@settings(max_examples=300, deadline=None)
def test_a_root_with_a_changed_byte_raises_only_ours(change: tuple[int, int]) -> None:
    try:
        bundle = Bundle.from_der("mesh.local", [changed(ROOT.root.public_bytes(Encoding.DER), change)])
        verify_svid(CHAIN, {"mesh.local": bundle}, NOW)
    except PeerError:
        return


@given(changes)
@settings(max_examples=300, deadline=None)
def test_a_request_with_a_changed_byte_is_refused(change: tuple[int, int]) -> None:
    try:
        requested_key(changed(REQUEST, change))
    except PeerError:
        return
    raise AssertionError("a changed request was accepted")


@given(st.one_of(st.binary(max_size=200), changes.map(lambda change: changed(ENVELOPE, change))))
@settings(max_examples=100, deadline=None)
def test_an_envelope_that_was_changed_is_refused(envelope: bytes) -> None:
    try:
        unseal(envelope, b"passphrase")
    except ConfigError:
        return
    raise AssertionError("a changed envelope was opened")


@given(st.sampled_from(["desired", "compiled", "beacon"]), st.binary(max_size=50), st.text(max_size=100))
def test_a_made_up_signature_is_refused(purpose: str, data: bytes, signature: str) -> None:
    try:
        VERIFY.verify(purpose, data, signature)
    except PeerError:
        return
    raise AssertionError("a made-up signature was accepted")
