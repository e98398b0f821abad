"""Paths: normal forms stay as they are, and hold nothing that the next hop could take for something else."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from fuzzing import fuzz

from ray_mesh.proxy.path import PATHS

SEEDS = (
    b"/a/../b/./c//d?x=/../",
    b"/%2e%2e/%2F%5c\\..\\%61",
    b"/%252e",
    b"//evil/..",
    b"*",
    b"/a#b",
    b"/%00",
)


def check(target: bytes) -> None:
    """Every way to normalize."""
    for word, paths in PATHS.items():
        try:
            path, query = paths.split(target)
        except ValueError:
            continue
        assert paths.split(path + query) == (path, query)
        assert not re.search(rb"[^\x21-\x7e]", path + query)
        assert b"?" not in path
        assert b"#" not in path + query
        if word == "NONE":
            assert path + query == target
            continue
        once = unquote_to_bytes(re.sub(rb"%(2f|5c)", b"-", path, flags=re.IGNORECASE))
        assert not {b".", b".."} & set(once.split(b"/"))
        found = paths.line.fullmatch(b"GET %b HTTP/1.1" % target)
        assert found is None or (found[3], found[4] or b"") == (path, query)


if __name__ == "__main__":
    fuzz(check, list(SEEDS))
