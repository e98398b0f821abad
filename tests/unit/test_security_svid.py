"""What counts as an X.509-SVID and which chains prove one (X509-SVID specification)."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ray_mesh.errors import PeerError
from ray_mesh.security.bundle import Bundle
from ray_mesh.security.ca import Authority
from ray_mesh.security.identity import SpiffeId, for_workload
from ray_mesh.security.svid import Svid, csr, leaf_identity, new_key, renewal_at, verify_svid

NOW = 1_750_000_000.0
HOUR = 3600
REVIEWS = for_workload("mesh.local", "default", "reviews")


@dataclass(frozen=True)
class Shape:
    """One certificate, well formed unless a test says otherwise."""

    uris: tuple[str, ...] = (str(REVIEWS),)
    dns: tuple[str, ...] = ()
    critical_names: bool = True
    ca: bool | None = False
    path_length: int | None = None
    usages: tuple[str, ...] | None = ("digital_signature",)
    critical_usages: bool = True
    extended: tuple[x509.ObjectIdentifier, ...] | None = (
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    )
    subject: str = ""
    begins_at: float = NOW - 60
    ends_at: float = NOW + HOUR
    authority_key: bool = True


CA_SHAPE = Shape(
    uris=(),
    ca=True,
    usages=("key_cert_sign", "crl_sign"),
    extended=None,
    subject="CA",
    ends_at=NOW + 10 * HOUR,
)
USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


@dataclass(frozen=True)
class Pair:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


def forge(shape: Shape, issuer: Pair | None = None, key: ec.EllipticCurvePrivateKey | None = None) -> Pair:
    key = key or new_key()
    signer = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(shape.subject))
        .issuer_name(issuer.certificate.subject if issuer else _name(shape.subject))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(shape.begins_at, UTC))
        .not_valid_after(datetime.fromtimestamp(shape.ends_at, UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if shape.authority_key:
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        builder = builder.add_extension(authority, critical=False)
    for extension, critical in _extensions(shape):
        builder = builder.add_extension(extension, critical=critical)
    return Pair(builder.sign(signer, hashes.SHA256()), key)


def _extensions(shape: Shape) -> list[tuple[x509.ExtensionType, bool]]:
    found: list[tuple[x509.ExtensionType, bool]] = []
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in shape.uris]
    names += [x509.DNSName(name) for name in shape.dns]
    if names:
        found.append((x509.SubjectAlternativeName(names), shape.critical_names))
    if shape.ca is not None:
        found.append((x509.BasicConstraints(shape.ca, shape.path_length), True))
    if shape.usages is not None:
        flags: dict[str, Any] = {each: each in shape.usages for each in USAGES}
        found.append((x509.KeyUsage(**flags), shape.critical_usages))
    if shape.extended is not None:
        found.append((x509.ExtendedKeyUsage(shape.extended), False))
    return found


ROOT = forge(replace(CA_SHAPE, subject="root"))
INTERMEDIATE = forge(replace(CA_SHAPE, subject="intermediate", path_length=0), ROOT)
BUNDLES = {"mesh.local": Bundle("mesh.local", (ROOT.certificate,))}


def verify_leaf(shape: Shape) -> SpiffeId:
    leaf = forge(shape, INTERMEDIATE)
    return verify_svid([leaf.certificate, INTERMEDIATE.certificate], BUNDLES, NOW)


@pytest.mark.parametrize(
    "shape",
    [
        Shape(),
        Shape(extended=None),
        Shape(ca=None),
        Shape(dns=("reviews.example",)),
        Shape(usages=("digital_signature", "key_encipherment", "key_agreement")),
        Shape(subject="reviews", critical_names=False),
        Shape(uris=("spiffe://mesh.local/anything",)),
        Shape(
            extended=(
                ExtendedKeyUsageOID.CLIENT_AUTH,
                ExtendedKeyUsageOID.SERVER_AUTH,
                ExtendedKeyUsageOID.EMAIL_PROTECTION,
            )
        ),
    ],
)
def test_accepted_leaves(shape: Shape) -> None:
    assert str(verify_leaf(shape)) == shape.uris[0]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (Shape(uris=(str(REVIEWS), "spiffe://mesh.local/ns/default/sa/admin")), "2 URI names"),
        (Shape(uris=(str(REVIEWS), str(REVIEWS))), "2 URI names"),
        (Shape(uris=(str(REVIEWS), "https://example.com/")), "2 URI names"),
        (Shape(uris=(), dns=("reviews.example",)), "0 URI names"),
        (Shape(uris=(), subject="reviews"), "no subjectAltName"),
        (Shape(uris=("https://example.com/",)), "not a SPIFFE ID"),
        (Shape(uris=("spiffe://MESH.local/ns/default/sa/reviews",)), "not a SPIFFE ID"),
        (Shape(uris=(str(REVIEWS) + "\n",)), "not a SPIFFE ID"),
        (Shape(uris=("spiffe://mesh.local",)), "names a trust domain"),
        (Shape(usages=None), "no keyUsage"),
        (Shape(usages=("key_agreement",)), "lacks digitalSignature"),
        (Shape(usages=("digital_signature", "key_cert_sign")), "signing certificates"),
        (Shape(usages=("digital_signature", "crl_sign")), "signing certificates"),
        (Shape(critical_usages=False), "not critical"),
        (Shape(ca=True), "CA certificate cannot authenticate"),
        (Shape(extended=(ExtendedKeyUsageOID.SERVER_AUTH,)), "extended key usage"),
        (Shape(extended=(ExtendedKeyUsageOID.CLIENT_AUTH,)), "extended key usage"),
        (Shape(extended=(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)), "extended key usage"),
        (Shape(critical_names=False), "spiffe://mesh.local"),
        (Shape(ends_at=NOW - 1), "expired at 2025-06-15"),
        (Shape(begins_at=NOW + 1), "valid from 2025-06-15"),
        (Shape(uris=("spiffe://other.example/ns/default/sa/reviews",)), "no trust bundle"),
    ],
)
def test_refused_leaves(shape: Shape, message: str) -> None:
    with pytest.raises(PeerError, match=message):
        verify_leaf(shape)


@pytest.mark.parametrize(
    "broken",
    [
        replace(CA_SHAPE, subject="intermediate", ends_at=NOW - 1),
        replace(CA_SHAPE, subject="intermediate", begins_at=NOW + 60),
        replace(CA_SHAPE, subject="intermediate", ca=False),
        replace(CA_SHAPE, subject="intermediate", ca=None),
        replace(CA_SHAPE, subject="intermediate", usages=("digital_signature",)),
        replace(CA_SHAPE, subject="intermediate", usages=("crl_sign",)),
    ],
)
def test_refused_intermediates(broken: Shape) -> None:
    issuer = forge(broken, ROOT)
    leaf = forge(Shape(), issuer)
    with pytest.raises(PeerError):
        verify_svid([leaf.certificate, issuer.certificate], BUNDLES, NOW)


def test_a_leaf_cannot_issue_identities() -> None:
    thief = forge(Shape(), INTERMEDIATE)
    leaf = forge(Shape(uris=("spiffe://mesh.local/ns/default/sa/admin",)), thief)
    with pytest.raises(PeerError):
        verify_svid([leaf.certificate, thief.certificate, INTERMEDIATE.certificate], BUNDLES, NOW)


def test_an_intermediate_cannot_make_another() -> None:
    below = forge(replace(CA_SHAPE, subject="below"), INTERMEDIATE)
    leaf = forge(Shape(), below)
    with pytest.raises(PeerError):
        verify_svid([leaf.certificate, below.certificate, INTERMEDIATE.certificate], BUNDLES, NOW)


def test_the_root_must_be_valid_too() -> None:
    leaf = forge(replace(Shape(), ends_at=NOW + 30 * HOUR), INTERMEDIATE)
    with pytest.raises(PeerError):
        verify_svid([leaf.certificate, INTERMEDIATE.certificate], BUNDLES, NOW + 20 * HOUR)


def test_validity_ends_with_the_last_second() -> None:
    leaf = forge(Shape(), INTERMEDIATE)
    chain = [leaf.certificate, INTERMEDIATE.certificate]
    assert verify_svid(chain, BUNDLES, NOW - 60) == REVIEWS
    assert verify_svid(chain, BUNDLES, NOW + HOUR) == REVIEWS
    for at in (NOW - 61, NOW + HOUR + 1, float("nan"), float("inf"), 1e18):
        with pytest.raises(PeerError):
            verify_svid(chain, BUNDLES, at)


def foreign_chain(uri: str, intermediates: int) -> tuple[Bundle, list[x509.Certificate]]:
    """A foreign trust domain whose CA signs whatever it likes."""
    root = issuer = forge(replace(CA_SHAPE, subject="foreign root"))
    between: list[x509.Certificate] = []
    for number in range(intermediates):
        issuer = forge(replace(CA_SHAPE, subject=f"foreign {number}"), issuer)
        between.insert(0, issuer.certificate)
    leaf = forge(Shape(uris=(uri,)), issuer)
    return Bundle("other.example", (root.certificate,)), [leaf.certificate, *between]


def test_a_foreign_ca_may_speak_for_its_own_domain() -> None:
    bundle, chain = foreign_chain("spiffe://other.example/ns/default/sa/x", 2)
    assert verify_svid(chain, {**BUNDLES, "other.example": bundle}, NOW).trust_domain == "other.example"


@pytest.mark.parametrize("extra", [(), (INTERMEDIATE.certificate,), (ROOT.certificate,)])
def test_a_foreign_ca_with_two_intermediates_cannot_forge_our_domain(
    extra: tuple[x509.Certificate, ...],
) -> None:
    bundle, chain = foreign_chain(str(REVIEWS), 2)
    bundles = {**BUNDLES, "other.example": bundle}
    with pytest.raises(PeerError):
        verify_svid([*chain, *extra], bundles, NOW)
    with pytest.raises(PeerError):
        verify_svid([*chain, bundle.roots[0], *extra], bundles, NOW)


def test_a_bundle_filed_under_another_domain_is_not_used() -> None:
    bundle, chain = foreign_chain(str(REVIEWS), 1)
    with pytest.raises(PeerError, match="no trust bundle"):
        verify_svid(chain, {"mesh.local": bundle}, NOW)


def test_a_namesake_of_our_root_does_not_help() -> None:
    namesake = forge(replace(CA_SHAPE, subject="root"))
    issuer = forge(replace(CA_SHAPE, subject="intermediate"), namesake)
    leaf = forge(Shape(), issuer)
    with pytest.raises(PeerError):
        verify_svid([leaf.certificate, issuer.certificate, namesake.certificate], BUNDLES, NOW)


def test_an_empty_bundle_trusts_nobody() -> None:
    leaf = forge(Shape(), INTERMEDIATE)
    with pytest.raises(PeerError, match="no trust bundle"):
        verify_svid(
            [leaf.certificate, INTERMEDIATE.certificate], {"mesh.local": Bundle("mesh.local", ())}, NOW
        )


@pytest.mark.parametrize(
    "chain", [[], [b""], [b"garbage"], [ROOT.certificate], [INTERMEDIATE.certificate] * 6]
)
def test_things_that_are_no_chain(chain: Sequence[x509.Certificate | bytes]) -> None:
    with pytest.raises(PeerError):
        verify_svid(chain, BUNDLES, NOW)


def test_a_missing_intermediate() -> None:
    with pytest.raises(PeerError):
        verify_svid([forge(Shape(), INTERMEDIATE).certificate], BUNDLES, NOW)


def test_der_and_unordered_extras_are_fine() -> None:
    leaf, stranger = forge(Shape(), INTERMEDIATE), forge(replace(CA_SHAPE, subject="stranger"))
    chain = [each.public_bytes(Encoding.DER) for each in (leaf.certificate, INTERMEDIATE.certificate)]
    assert verify_svid(chain, BUNDLES, NOW) == REVIEWS
    more = [leaf.certificate, stranger.certificate, INTERMEDIATE.certificate]
    assert verify_svid(more, BUNDLES, NOW) == REVIEWS


def test_a_changed_byte_breaks_the_chain() -> None:
    der = bytearray(forge(Shape(), INTERMEDIATE).certificate.public_bytes(Encoding.DER))
    der[-1] ^= 1
    with pytest.raises(PeerError):
        verify_svid([bytes(der), INTERMEDIATE.certificate], BUNDLES, NOW)


def test_two_roots_overlap_while_one_replaces_the_other() -> None:
    old, new = Authority.create_root("mesh.local", NOW), Authority.create_root("mesh.local", NOW)
    both = {"mesh.local": Bundle("mesh.local", (old.root, new.root))}
    for root in (old, new):
        chain = root.create_intermediate(NOW).issue(csr(new_key()), REVIEWS, HOUR, NOW)
        assert verify_svid(chain, both, NOW) == REVIEWS
    with pytest.raises(PeerError):
        verify_svid(chain, {"mesh.local": Bundle("mesh.local", (old.root,))}, NOW)


def issue(ttl_s: int) -> Svid:
    key = new_key()
    authority = Authority.create_root("mesh.local", NOW).create_intermediate(NOW)
    return Svid.from_der(authority.issue(csr(key), REVIEWS, ttl_s, NOW), key)


def test_an_svid_knows_itself() -> None:
    svid = issue(HOUR)
    assert (svid.id, svid.expires_at, svid.not_before_at) == (REVIEWS, NOW + HOUR, NOW - 60)
    assert tuple(x509.load_der_x509_certificate(each) for each in svid.chain_der()) == svid.chain
    assert svid.chain_pem().count(b"BEGIN CERTIFICATE") == 2
    assert b"BEGIN PRIVATE KEY" in svid.key_pem()


@pytest.mark.parametrize("ttl_s", [4, 6, 60, 90, 121, HOUR])
def test_renewal_is_at_half_life(ttl_s: int) -> None:
    svid = issue(ttl_s)
    assert svid.issued_at == NOW
    assert renewal_at(svid, 0) == pytest.approx(NOW + ttl_s / 2)
    assert renewal_at(svid, -1) == pytest.approx(NOW + ttl_s * 0.45)
    assert renewal_at(svid, 1) == renewal_at(svid, 7) == pytest.approx(NOW + ttl_s * 0.55)


def test_an_svid_needs_its_own_key_and_a_leaf() -> None:
    svid = issue(HOUR)
    with pytest.raises(PeerError, match="another key"):
        Svid(svid.chain, new_key())
    with pytest.raises(PeerError, match="chain is empty"):
        Svid((), new_key())
    with pytest.raises(PeerError, match="not an X"):
        Svid((ROOT.certificate,), ROOT.key)
    with pytest.raises(PeerError, match="not a certificate"):
        Svid.from_der([b"no"], new_key())


def test_the_key_stays_inside() -> None:
    svid = issue(HOUR)
    secret = svid.key_pem().split(b"\n")[1].decode()
    assert secret not in repr(svid) + str(svid) + f"{svid}"
    assert "reviews" in repr(svid)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="private key"):
            pickle.dumps(svid, protocol)
    with pytest.raises(TypeError, match="private key"):
        copy.deepcopy(svid)


def test_bundles_read_what_they_write() -> None:
    bundle = Bundle("mesh.local", (ROOT.certificate, forge(replace(CA_SHAPE, subject="b")).certificate))
    assert Bundle.from_der("mesh.local", bundle.der()) == bundle
    assert bundle.pem().count("BEGIN CERTIFICATE") == 2


def test_bundles_hold_only_cas() -> None:
    with pytest.raises(PeerError, match="not a CA"):
        Bundle("mesh.local", (forge(Shape(), INTERMEDIATE).certificate,))
    with pytest.raises(PeerError, match="not a certificate"):
        Bundle.from_der("mesh.local", [b"no"])
    with pytest.raises(PeerError):
        Bundle("Mesh.local", ())


def test_leaf_identity_reads_without_proving() -> None:
    assert leaf_identity(forge(Shape()).certificate) == REVIEWS
