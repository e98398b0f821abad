"""Laws that hold for every input."""

from __future__ import annotations

import contextlib
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ray_mesh.proxy.balance import WeightedSplit
from ray_mesh.proxy.body import LAST_CHUNK, BadBody, ChunkedReader, frame
from ray_mesh.proxy.head import BadHead, read_request, read_response
from ray_mesh.proxy.hosts import meanings
from ray_mesh.proxy.path import PATHS

TARGETS = st.text("ab./\\%2eE5cF0?;", min_size=1, max_size=24).map(lambda text: ("/" + text).encode())
NAMES = st.sampled_from(
    [
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "X-Mesh-Source",
        "x-a",
        "Keep-Alive",
        "TE",
        "Upgrade",
    ]
)
VALUES = st.sampled_from(["a", "1", "2", "chunked", "close", "x-a", "keep-alive, x-a", "", "trailers"])
BLOCKS = st.lists(st.tuples(NAMES, VALUES), max_size=8).map(
    lambda pairs: ("\r\n" + "".join(f"{name}: {value}\r\n" for name, value in pairs)).encode()
)


@given(TARGETS, st.sampled_from(sorted(PATHS)))
def test_a_normal_path_is_its_own_normal_form(target: bytes, way: str) -> None:
    paths = PATHS[way]
    try:
        path, query = paths.split(target)
    except ValueError:
        return
    assert paths.split(path + query) == (path, query)
    assert path.startswith(b"/")
    if way == "NONE":
        assert path + query == target
        return
    assert not {b".", b".."} & set(path.split(b"/"))
    assert b"\\" not in path
    if way != "BASE":
        assert b"//" not in path
    if way == "DECODE_AND_MERGE_SLASHES":
        assert b"%2F" not in path
        assert b"%5C" not in path


@given(TARGETS, st.sampled_from(sorted(PATHS)))
def test_a_line_that_needs_no_look_is_normal(target: bytes, way: str) -> None:
    found = PATHS[way].line.fullmatch(b"GET " + target + b" HTTP/1.1")
    if found is not None:
        assert PATHS[way].split(target) == (found[3], found[4] or b"")


@given(st.lists(st.binary(max_size=50), max_size=6), st.binary(max_size=10), st.data())
def test_chunks_survive_every_way_of_cutting_them(
    payloads: list[bytes], after: bytes, data: st.DataObject
) -> None:
    wire = b"".join(map(frame, payloads)) + LAST_CHUNK
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    pieces = [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    body = ChunkedReader()
    received = b""
    rest = None
    for piece in pieces:
        assert rest is None or not piece
        if piece:
            payload, rest = body.feed(piece)
            received += payload
    assert received == b"".join(payloads)
    assert rest == b""
    assert ChunkedReader().feed(wire + after)[1] == after


@given(st.text("0123aF\r\n; x", max_size=40).map(str.encode), st.integers(0, 40))
def test_cutting_never_changes_what_a_chunked_body_means(wire: bytes, cut: int) -> None:
    def outcome(*pieces: bytes) -> tuple[bytes, bool, bytes] | None:
        body = ChunkedReader()
        received, ended, rest = b"", False, b""
        for piece in pieces:
            if ended:
                rest += piece
                continue
            try:
                payload, after = body.feed(piece)
            except BadBody:
                return None
            received += payload
            if after is not None:
                ended, rest = True, after
        return received, ended, rest

    whole, halves = outcome(wire), outcome(wire[:cut], wire[cut:])
    if whole is not None and whole[1]:
        assert halves == whole
    if halves is not None and halves[1]:
        assert whole == halves


@given(BLOCKS)
def test_no_hop_by_hop_field_survives(block: bytes) -> None:
    with contextlib.suppress(BadHead):
        head = read_request(block, frozenset())
        names = {line.partition(b":")[0].lower() for line in head.fields.split(b"\r\n")}
        assert not names & {
            b"connection",
            b"keep-alive",
            b"te",
            b"upgrade",
            b"transfer-encoding",
            b"x-mesh-source",
        }
        assert head.fields.startswith(b"\r\n")
        assert head.fields.endswith(b"\r\n")
        assert names <= {line.partition(b":")[0].lower() for line in block.split(b"\r\n")}


@given(BLOCKS)
def test_framing_is_never_ambiguous(block: bytes) -> None:
    lower = block.lower()
    lengths, codings = lower.count(b"\ncontent-length:"), lower.count(b"\ntransfer-encoding:")
    with contextlib.suppress(BadHead):
        read_request(block, frozenset())
        assert lengths + codings <= 1
        assert lower.count(b"\nhost:") == 1
    with contextlib.suppress(BadHead):
        read_response(block, trusts_mesh_fields=True)
        assert lengths + codings <= 1


@given(st.lists(st.integers(0, 100), min_size=2, max_size=5).filter(any))
def test_a_split_gives_each_its_share(weights: list[int]) -> None:
    split = WeightedSplit(weights)
    total = sum(weights)
    drawn = Counter(split.draw((number + 0.5) / total) for number in range(total))
    assert [drawn[index] for index in range(len(weights))] == weights


@given(st.text("ab.-1", min_size=1, max_size=20), st.sampled_from(["default", "prod"]))
def test_full_hosts_are_fixed_points(host: str, namespace: str) -> None:
    for full in meanings(host, namespace):
        assert full in meanings(full, "other")
