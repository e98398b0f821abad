"""Join tokens: used up by the first try, whatever comes of it."""

from __future__ import annotations

import pytest

from ray_mesh.errors import ConfigError, PolicyDenied, Unauthenticated
from ray_mesh.security.join import (
    KEPT_S,
    JoinToken,
    JoinTokens,
    is_of_node,
    new_secret,
    secret_sha256,
    sidecar_proxy,
)

NOW = 1_750_000_000.0
ACCOUNT = "default/reviews"


def tokens(ttl_s: float = 60.0) -> tuple[JoinTokens, str]:
    known = JoinTokens()
    token, sha256 = new_secret()
    known.add(sha256, ACCOUNT, ttl_s, NOW)
    assert secret_sha256(token) == sha256
    assert token not in repr(known)
    return known, sha256


def test_a_token_is_good_once() -> None:
    known, sha256 = tokens()
    known.redeem(sha256, ACCOUNT, NOW + 59)
    with pytest.raises(PolicyDenied, match="used already"):
        known.redeem(sha256, ACCOUNT, NOW + 59)


def test_an_expired_token_is_refused_and_says_since_when() -> None:
    known, sha256 = tokens()
    with pytest.raises(PolicyDenied, match="expired 0 s ago"):
        known.redeem(sha256, ACCOUNT, NOW + 60)


def test_a_token_of_another_account_is_refused_and_used_up() -> None:
    known, sha256 = tokens()
    with pytest.raises(PolicyDenied, match="is for service account default/reviews, not default/ratings"):
        known.redeem(sha256, "default/ratings", NOW)
    with pytest.raises(PolicyDenied, match="used already"):
        known.redeem(sha256, ACCOUNT, NOW)


def test_an_unknown_token_is_refused() -> None:
    known, _ = tokens()
    with pytest.raises(Unauthenticated, match="no join token of this mesh"):
        known.redeem(secret_sha256("guess"), ACCOUNT, NOW)


@pytest.mark.parametrize("account", ["reviews", "/reviews", "default/", "a/b/c", "default/re views", ""])
def test_an_account_that_cannot_be_is_refused(account: str) -> None:
    with pytest.raises(ConfigError, match="SPIFFE"):
        JoinTokens().add("00", account, 60, NOW)


@pytest.mark.parametrize("ttl_s", [0, -1, 86_401, float("nan")])
def test_a_life_out_of_range_is_refused(ttl_s: float) -> None:
    with pytest.raises(ConfigError, match="lives 1 to"):
        JoinTokens().add("00", ACCOUNT, ttl_s, NOW)


def test_tokens_are_forgotten_a_day_after_their_end_only() -> None:
    known = JoinTokens({"old": JoinToken(ACCOUNT, NOW, used=True)})
    known.add("new", ACCOUNT, 60, NOW + KEPT_S - 1)
    assert set(known.tokens) == {"old", "new"}
    known.add("newer", ACCOUNT, 60, NOW + KEPT_S)
    assert set(known.tokens) == {"new", "newer"}


def test_a_sidecar_is_on_its_own_node_only() -> None:
    proxy = sidecar_proxy("sidecar-host-web-v1", "a1b2c3")
    assert is_of_node(proxy, "sidecar-host-web-v1")
    assert not is_of_node(proxy, "sidecar-host-web")
    assert not is_of_node(proxy, "f00ba4")
    assert not is_of_node("proxy-f00ba4-0-a1b2c3", "sidecar-host-web-v1")
    assert is_of_node("proxy-f00ba4-0-a1b2c3", "f00ba4")
