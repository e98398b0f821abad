"""Absolute targets: authority and path are found as RFC 3986 has them, or nothing is."""

from __future__ import annotations

import re

from fuzzing import fuzz

from ray_mesh.proxy.hosts import split_authority
from ray_mesh.proxy.path import split_absolute

RFC3986 = re.compile(rb"^(([^:/?#]+):)?(//([^/?#]*))?([^?#]*)(\?([^#]*))?(#(.*))?", re.DOTALL)
"""The expression of its appendix B."""
SEEDS = (
    b"http://a/b?c",
    b"http://a?@b/",
    b"http://u@a/",
    b"HTTP://[::1]:80/",
    b"http://a\\@b/",
    b"http://a#@b",
)


def check(target: bytes) -> None:
    """Against the expression of the RFC."""
    absolute = split_absolute(target)
    if absolute is None:
        return
    authority, rest = absolute
    found = RFC3986.match(target)
    assert found is not None
    assert found[2].lower() == b"http"
    assert authority == found[4]
    assert b"@" not in authority
    assert rest[:1] == b"/"
    if b"#" not in target:
        assert rest == (found[5] or b"/") + (found[6] or b"")
    split = split_authority(authority)
    assert split is None or re.fullmatch(r"[a-z0-9._\[\]:-]+", split[0])


if __name__ == "__main__":
    fuzz(check, list(SEEDS))
