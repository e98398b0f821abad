"""SPIFFE IDs: whatever is parsed is its own text, and the grammar is the specification's."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from ray_mesh.errors import PeerError
from ray_mesh.security.identity import SpiffeId

DOMAIN = set(string.ascii_lowercase + string.digits + "._-")
SEGMENT = set(string.ascii_letters + string.digits + "._-")


def is_valid(text: str) -> bool:
    """The specification, without regular expressions."""
    if not text.startswith("spiffe://") or len(text) > 2048:
        return False
    domain, *segments = text.removeprefix("spiffe://").split("/")
    if not 1 <= len(domain) <= 255 or not set(domain) <= DOMAIN:
        return False
    return all(each not in ("", ".", "..") and set(each) <= SEGMENT for each in segments)


near_misses = st.lists(
    st.sampled_from(
        ["spiffe://", "td", ".", "..", "/", "//", "a", "B", "%41", "\n", ":", "@", "?", "#", "é"]
    ),
    max_size=8,
).map("".join)


@given(st.one_of(st.text(), near_misses, near_misses.map(lambda rest: f"spiffe://td{rest}")))
def test_parsing_follows_the_grammar(text: str) -> None:
    try:
        parsed = SpiffeId.parse(text)
    except PeerError:
        assert not is_valid(text)
    else:
        assert is_valid(text)
        assert str(parsed) == text
        assert SpiffeId(parsed.trust_domain, parsed.path) == parsed
        assert parsed.principal == text.removeprefix("spiffe://")
