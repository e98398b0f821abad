"""What the certificate authority signs."""

from __future__ import annotations

import copy
import ipaddress
import pickle

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from ray_mesh.errors import ConfigError, PeerError, Unavailable
from ray_mesh.security.ca import Authority, chain_pem, public_key_sha256, requested_key
from ray_mesh.security.identity import SpiffeId, for_workload
from ray_mesh.security.sealed import RANDOM_SECRET_COST, seal
from ray_mesh.security.svid import csr, new_key, verify_svid

NOW = 1_750_000_000.0
DAY = 86_400
REVIEWS = for_workload("mesh.local", "default", "reviews")
ROOT = Authority.create_root("mesh.local", NOW)
CA = ROOT.create_intermediate(NOW)


def leaf(ttl_s: float = 3600, now: float = NOW, authority: Authority = CA) -> x509.Certificate:
    return x509.load_der_x509_certificate(authority.issue(csr(new_key()), REVIEWS, ttl_s, now)[0])


def life(certificate: x509.Certificate) -> tuple[float, float]:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begins.timestamp() - NOW, ends.timestamp() - NOW


def test_the_profile_of_a_leaf() -> None:
    made = leaf()
    extensions = {each.value.__class__: each for each in made.extensions}
    names = extensions[x509.SubjectAlternativeName]
    assert names.critical
    assert names.value == x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(REVIEWS))])
    assert extensions[x509.BasicConstraints].critical
    assert extensions[x509.BasicConstraints].value == x509.BasicConstraints(False, None)
    usage = made.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not any((usage.value.key_cert_sign, usage.value.crl_sign, usage.value.key_encipherment))
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    assert extensions[x509.ExtendedKeyUsage].value == x509.ExtendedKeyUsage(both)
    assert x509.SubjectKeyIdentifier in extensions
    assert x509.AuthorityKeyIdentifier in extensions
    assert len(extensions) == 6
    assert len(made.subject) == 0
    assert made.serial_number.bit_length() > 64
    assert isinstance(made.public_key(), ec.EllipticCurvePublicKey)


def test_the_profile_of_the_cas() -> None:
    for authority, path_length, days in ((ROOT, 1, 3650), (CA, 0, 30)):
        certificate = authority.certificate
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert constraints.critical
        assert constraints.value == x509.BasicConstraints(True, path_length)
        assert life(certificate) == (-DAY, days * DAY)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://mesh.local"]
    assert ROOT.certificate.subject != CA.certificate.subject
    assert (ROOT.is_root, CA.is_root) == (True, False)
    assert CA.expires_at == NOW + 30 * DAY


@pytest.mark.parametrize(
    ("ttl_s", "expected"), [(2, (-2, 2)), (4, (-4, 4)), (60, (-60, 60)), (3600, (-60, 3600)), (4.9, (-4, 4))]
)
def test_lifetimes(ttl_s: float, expected: tuple[float, float]) -> None:
    assert life(leaf(ttl_s)) == expected


@pytest.mark.parametrize("ttl_s", [0, 1, -5, 86_401, float("nan"), float("inf")])
def test_lifetimes_out_of_range(ttl_s: float) -> None:
    with pytest.raises(ConfigError, match="lifetime"):
        leaf(ttl_s)


def test_a_leaf_never_outlives_its_intermediate() -> None:
    assert life(leaf(3600, NOW + 30 * DAY - 10)) == (30 * DAY - 20, 30 * DAY)
    with pytest.raises(Unavailable, match="renew it"):
        leaf(3600, NOW + 30 * DAY)
    with pytest.raises(Unavailable, match="set the clock"):
        leaf(3600, NOW - DAY - 1)


def test_a_ca_that_was_just_made_issues_with_a_clock_that_is_set_back_by_hours() -> None:
    certificate = leaf(3600, NOW - 2 * 3600)
    assert certificate.not_valid_before_utc >= CA.certificate.not_valid_before_utc


def test_an_intermediate_never_outlives_its_root() -> None:
    short = Authority.create_root("mesh.local", NOW, lifetime_s=100)
    assert short.create_intermediate(NOW + 40).expires_at == short.expires_at


def test_only_the_root_makes_intermediates_and_only_they_make_leaves() -> None:
    with pytest.raises(ConfigError, match="only the root"):
        CA.create_intermediate(NOW)
    with pytest.raises(ConfigError, match="no leaf"):
        leaf(authority=ROOT)


@pytest.mark.parametrize(
    "identity", [SpiffeId("mesh.local"), for_workload("other.example", "default", "reviews")]
)
def test_identities_that_are_not_ours(identity: SpiffeId) -> None:
    with pytest.raises(ConfigError, match="issues no SVID"):
        CA.issue(csr(new_key()), identity, 3600, NOW)


def test_serial_numbers_and_names_do_not_repeat() -> None:
    key = new_key()
    serials = {
        x509.load_der_x509_certificate(CA.issue(csr(key), REVIEWS, 60, NOW)[0]).serial_number
        for _ in range(20)
    }
    assert len(serials) == 20
    assert Authority.create_root("mesh.local", NOW).certificate.subject != ROOT.certificate.subject


def test_nothing_but_the_key_is_taken_from_a_request() -> None:
    key = new_key()
    admin = x509.SubjectAlternativeName(
        [x509.UniformResourceIdentifier("spiffe://mesh.local/ns/default/sa/admin"), x509.DNSName("admin")]
    )
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")]))
        .add_extension(admin, critical=True)
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain = CA.issue(request.public_bytes(Encoding.DER), REVIEWS, 60, NOW)
    made = x509.load_der_x509_certificate(chain[0])
    assert verify_svid(chain, {"mesh.local": CA.bundle()}, NOW) == REVIEWS
    assert b"admin" not in chain[0]
    assert len(made.subject) == 0


def request_for(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def test_requests_that_are_refused() -> None:
    with pytest.raises(PeerError, match="P-256"):
        requested_key(request_for(ec.generate_private_key(ec.SECP384R1())))
    with pytest.raises(PeerError, match="P-256"):
        requested_key(request_for(rsa.generate_private_key(65537, 2048)))
    for garbage in (b"", b"garbage", csr(new_key())[:-4]):
        with pytest.raises(PeerError, match="unreadable"):
            requested_key(garbage)
    with pytest.raises(PeerError, match="longer than"):
        requested_key(b"x" * 5000)


def test_a_request_for_the_key_of_another_is_refused() -> None:
    mine, theirs = new_key(), new_key()
    request = csr(mine)
    stolen = request.replace(_point(mine), _point(theirs))
    assert stolen != request
    with pytest.raises(PeerError, match="not signed by its own key"):
        requested_key(stolen)


def _point(key: ec.EllipticCurvePrivateKey) -> bytes:
    numbers = key.public_key().public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def test_the_hash_of_a_key_is_that_of_its_request() -> None:
    key = new_key()
    assert public_key_sha256(requested_key(csr(key))) == public_key_sha256(key.public_key())
    assert public_key_sha256(key.public_key()) != public_key_sha256(new_key().public_key())


def test_the_brokers_certificate() -> None:
    key = new_key()
    chain = CA.issue_server_certificate(key.public_key(), ["localhost"], ["127.0.0.1", "::1"], NOW)
    certificates = [x509.load_der_x509_certificate(der) for der in chain]
    usage = certificates[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert chain_pem(chain).count(b"BEGIN CERTIFICATE") == 2
    for subject in (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))):
        at = certificates[0].not_valid_before_utc.replace(tzinfo=None)
        verifier = PolicyBuilder().store(Store([ROOT.certificate])).time(at).build_server_verifier(subject)
        assert verifier.verify(certificates[0], certificates[1:])[-1] == ROOT.certificate
    with pytest.raises(PeerError):
        verify_svid(chain, {"mesh.local": CA.bundle()}, NOW)


@pytest.mark.parametrize(
    ("names", "ips"),
    [
        ([], []),
        (["a b"], []),
        (["spiffe://mesh.local/x"], []),
        ([""], []),
        (["a\n"], []),
        ([], ["localhost"]),
    ],
)
def test_names_that_a_server_cannot_have(names: list[str], ips: list[str]) -> None:
    with pytest.raises(ConfigError):
        CA.issue_server_certificate(new_key().public_key(), names, ips, NOW)


def test_sealing() -> None:
    for authority in (ROOT, CA):
        again = Authority.unseal(authority.seal(b"secret", RANDOM_SECRET_COST), b"secret")
        assert (again.trust_domain, again.certificate, again.root) == (
            "mesh.local",
            authority.certificate,
            ROOT.certificate,
        )
    chain = again.issue(csr(new_key()), REVIEWS, 60, NOW)
    assert verify_svid(chain, {"mesh.local": ROOT.bundle()}, NOW) == REVIEWS
    with pytest.raises(ConfigError, match="passphrase is wrong"):
        Authority.unseal(CA.seal(b"secret", RANDOM_SECRET_COST), b"other")
    with pytest.raises(ConfigError, match="does not hold"):
        Authority.unseal(seal(b"something", b"secret", RANDOM_SECRET_COST), b"secret")


def test_the_key_stays_inside() -> None:
    authority = Authority("mesh.local", CA.certificate, ROOT.certificate, key := new_key())
    secret = key.private_numbers().private_value
    shown = repr(authority) + str(authority)
    assert str(secret) not in shown
    assert f"{secret:x}" not in shown
    raw = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    assert raw not in authority.seal(b"secret", RANDOM_SECRET_COST)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="only sealed"):
            pickle.dumps(authority, protocol)
    with pytest.raises(TypeError, match="only sealed"):
        copy.copy(authority)
