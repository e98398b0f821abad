"""SPIFFE IDs against a table re-derived from the specification, sections 2.1 to 2.4."""

from __future__ import annotations

import string

import pytest

from ray_mesh.errors import ConfigError, PeerError
from ray_mesh.security.identity import SpiffeId, for_workload

DOMAIN_CHARACTERS = set(string.ascii_lowercase + string.digits + ".-_")
PATH_CHARACTERS = set(string.ascii_letters + string.digits + ".-_")


@pytest.mark.parametrize("code", range(256))
def test_each_character_in_a_trust_domain(code: int) -> None:
    text = f"spiffe://trust{chr(code)}domain"
    if chr(code) in DOMAIN_CHARACTERS:
        assert str(SpiffeId.parse(text)) == text
    elif chr(code) == "/":
        assert SpiffeId.parse(text) == SpiffeId("trust", "/domain")
    else:
        with pytest.raises(PeerError, match="not a SPIFFE ID"):
            SpiffeId.parse(text)


@pytest.mark.parametrize("code", range(256))
def test_each_character_in_a_path(code: int) -> None:
    text = f"spiffe://trustdomain/path{chr(code)}element"
    if chr(code) in PATH_CHARACTERS or chr(code) == "/":
        parsed = SpiffeId.parse(text)
        assert (str(parsed), parsed.path) == (text, f"/path{chr(code)}element")
    else:
        with pytest.raises(PeerError, match="not a SPIFFE ID"):
            SpiffeId.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "spiffe://trustdomain",
        "spiffe://trustdomain/path",
        "spiffe://trustdomain/path/element",
        "spiffe://10.0.0.1/path",
        "spiffe://trustdomain/.../.a/a./..b",
        "spiffe://trust_domain.example-1/Path",
        "spiffe://" + "t" * 255 + "/path",
        "spiffe://td/" + "p" * (2048 - 12),
    ],
)
def test_valid(text: str) -> None:
    assert str(SpiffeId.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "trustdomain/path",
        "/trustdomain/path",
        "//trustdomain/path",
        "spiffe",
        "spiffe:",
        "spiffe:/",
        "spiffe://",
        "spiffe:///path",
        "http://trustdomain/path",
        "Spiffe://trustdomain/path",
        "SPIFFE://trustdomain/path",
        "spiffes://trustdomain/path",
        "spiffe:/trustdomain/path",
        "spiffe://TrustDomain/path",
        "spiffe://trustdomain/",
        "spiffe://trustdomain//path",
        "spiffe://trustdomain/path/",
        "spiffe://trustdomain/path//element",
        "spiffe://trustdomain/.",
        "spiffe://trustdomain/./path",
        "spiffe://trustdomain/path/.",
        "spiffe://trustdomain/path/./element",
        "spiffe://trustdomain/..",
        "spiffe://trustdomain/../path",
        "spiffe://trustdomain/path/..",
        "spiffe://trustdomain/path/../element",
        "spiffe://user@trustdomain/path",
        "spiffe://user:secret@trustdomain/path",
        "spiffe://trustdomain:80/path",
        "spiffe://[::1]/path",
        "spiffe://trustdomain/path?query",
        "spiffe://trustdomain/path#fragment",
        "spiffe://trustdomain?query",
        "spiffe://trustdomain#fragment",
        "spiffe://trust%20domain/path",
        "spiffe://trustdomain/%5Cpath",
        "spiffe://trustdomain\n",
        "spiffe://trustdomain/path\n",
        "spiffe://trustdomain\n/path",
        "spiffe://trustdomain/..\n",
        " spiffe://trustdomain/path",
        "spiffe://trustdomain/path ",
        "spiffe://trustdomain/\u0430",
        "spiffe://trust\u212aomain/path",
        "spiffe://" + "t" * 256 + "/path",
        "spiffe://td/" + "p" * (2049 - 12),
    ],
)
def test_invalid(text: str) -> None:
    with pytest.raises(PeerError):
        SpiffeId.parse(text)


@pytest.mark.parametrize(
    ("trust_domain", "path"),
    [
        ("", "/p"),
        ("td/x", "/p"),
        ("td/x", ""),
        ("TD", "/p"),
        ("td", "p"),
        ("td", "/"),
        ("td", "/p\n"),
        ("td\n", ""),
    ],
)
def test_parts_are_checked_too(trust_domain: str, path: str) -> None:
    with pytest.raises(PeerError):
        SpiffeId(trust_domain, path)


def test_istio_form() -> None:
    reviews = for_workload("mesh.local", "default", "reviews")
    assert str(reviews) == "spiffe://mesh.local/ns/default/sa/reviews"
    assert (reviews.namespace, reviews.service_account) == ("default", "reviews")
    assert reviews.principal == "mesh.local/ns/default/sa/reviews"


@pytest.mark.parametrize(
    "path",
    ["", "/ns/a", "/ns/a/sa", "/ns/a/sa/b/c", "/sa/a/ns/b", "/x/ns/a/sa/b", "/NS/a/sa/b", "/ns/a/SA/b"],
)
def test_other_forms_name_no_namespace(path: str) -> None:
    other = SpiffeId("mesh.local", path)
    assert (other.namespace, other.service_account) == ("", "")


@pytest.mark.parametrize("bad", ["", ".", "..", "a/b", "a/sa/b", "a b", "a\n", "\u00e9", "../x"])
def test_a_name_cannot_widen_an_identity(bad: str) -> None:
    with pytest.raises(ConfigError, match="namespace"):
        for_workload("mesh.local", bad, "x")
    with pytest.raises(ConfigError, match="service account"):
        for_workload("mesh.local", "x", bad)


def test_a_bad_trust_domain_is_the_authors_fault() -> None:
    with pytest.raises(ConfigError, match="no identity for a/b"):
        for_workload("Mesh", "a", "b")
