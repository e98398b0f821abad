"""Header lists of HTTP/2 as blocks of field lines, and back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_mesh.proxy import http2_head
from ray_mesh.proxy.head import CHUNKED, BadHead, read_request
from ray_mesh.proxy.http2_head import Asked

REQUEST = ((b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"reviews:80"), (b":path", b"/a?b"))


def asked(*fields: tuple[bytes, bytes]) -> Asked:
    return Asked((*REQUEST, *fields))


def test_request_becomes_a_block_that_reads_like_one_of_http1() -> None:
    one = asked((b"content-type", b"application/grpc"), (b"te", b"trailers"), (b"x-a", b"1"), (b"x-a", b"2"))
    one.check()
    assert (one.method, one.target, one.scheme) == (b"POST", b"/a?b", b"http")
    head = read_request(one.block(ended=False), frozenset())
    assert (head.host, head.length) == (b"reviews:80", CHUNKED)
    assert head.values(b"x-a") == [b"1", b"2"]
    assert b"te:" not in head.fields
    assert b"transfer-encoding" not in head.fields


def test_a_request_that_ended_has_no_body() -> None:
    head = read_request(asked().block(ended=True), frozenset())
    assert head.length == 0
    http2_head.check_ended(head, True)
    sized = read_request(asked((b"content-length", b"5")).block(ended=True), frozenset())
    with pytest.raises(BadHead):
        http2_head.check_ended(sized, True)


def test_content_length_is_kept() -> None:
    head = read_request(asked((b"content-length", b"5")).block(ended=False), frozenset())
    assert head.length == 5
    assert b"content-length: 5" in head.fields


def test_cookies_are_one_line() -> None:
    block = asked((b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2")).block(ended=True)
    assert block.count(b"cookie: ") == 1
    assert b"cookie: a=1; b=2\r\n" in block


def test_what_differs_in_each_request_is_set_apart() -> None:
    parent = b"00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
    one = asked((b"traceparent", parent), (b"x-request-id", b"abc"), (b"x", b"y"))
    assert (one.parent, one.request_id, one.fields) == (parent, b"abc", [(b"x", b"y")])
    bad = asked((b"traceparent", b"no"), (b"x-request-id", b"a b"))
    assert (bad.parent, bad.request_id) == (b"", b"")
    assert len(bad.fields) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x", b"a\r\ny: b"),
        (b"x", b"a\nb"),
        (b"x", b"a\0b"),
        (b"x y", b"a"),
        (b"x:", b"a"),
        (b"X", b"a"),
        (b"", b"a"),
        (b"x\r\nhost", b"a"),
        (b"connection", b"close"),
        (b"connection", b"x"),
        (b"keep-alive", b"1"),
        (b"proxy-connection", b"close"),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"h2c"),
        (b"http2-settings", b"AAMAAABkAAQAAP__"),
        (b"te", b"gzip"),
        (b"host", b"other"),
    ],
)
def test_what_could_mean_something_else_as_a_line_is_refused(name: bytes, value: bytes) -> None:
    with pytest.raises(BadHead):
        asked((name, value)).block(ended=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b":method", b"GET /evil HTTP/1.1\r\nx:"),
        (b":method", b"get"),
        (b":method", b""),
        (b":method", b"CONNECT"),
        (b":path", b""),
        (b":path", b"*"),
        (b":path", b"relative"),
        (b":path", b"/a b"),
        (b":path", b"/a\r\nx: y"),
        (b":path", b"/\xc3\xa9"),
        (b":path", b"http://other/"),
        (b":authority", b""),
        (b":authority", b"a b"),
        (b":authority", b"a\r\nx: y"),
    ],
)
def test_pseudo_fields_that_are_no_request_line_are_refused(name: bytes, value: bytes) -> None:
    changed = [(each, value if each == name else kept) for each, kept in REQUEST]
    with pytest.raises(BadHead):
        _read(changed)


def _read(headers: list[tuple[bytes, bytes]]) -> bytes:
    one = Asked(headers)
    one.check()
    return one.block(ended=True)


def test_unknown_pseudo_fields_and_late_ones_are_refused() -> None:
    with pytest.raises(BadHead):
        Asked((*REQUEST, (b":status", b"200")))
    with pytest.raises(BadHead):
        Asked((REQUEST[0], (b"x", b"y"), *REQUEST[1:]))


def test_a_host_without_authority_is_the_host() -> None:
    one = Asked([pair for pair in REQUEST if pair[0] != b":authority"] + [(b"host", b"reviews")])
    assert read_request(one.block(ended=True), frozenset()).host == b"reviews"


def test_too_large_fields_are_431() -> None:
    with pytest.raises(BadHead) as refused:
        asked((b"x", b"a" * 70_000)).block(ended=True)
    assert refused.value.code == 431


def test_response_without_length_has_a_body_of_unknown_length_unless_it_ended() -> None:
    assert http2_head.answered(((b"x", b"y"),), False, False).length == CHUNKED
    assert http2_head.answered(((b"x", b"y"),), True, False).length == 0
    assert http2_head.answered(((b"content-length", b"3"),), False, False).length == 3


def test_mesh_fields_of_a_response_pass_from_a_proxy_only() -> None:
    fields = ((b"x-mesh-flag", b"UH"), (b"a", b"b"))
    assert b"x-mesh-flag" in http2_head.answered(fields, True, True).fields
    assert b"x-mesh-flag" not in http2_head.answered(fields, True, False).fields


@pytest.mark.parametrize("code", [b"", b"20", b"2000", b"abc", b"099", b"101", b"+20"])
def test_what_is_no_status_is_refused(code: bytes) -> None:
    with pytest.raises(BadHead):
        http2_head.status_line(code)


def test_a_status_has_its_phrase() -> None:
    assert http2_head.status_line(b"404") == (404, b"HTTP/1.1 404 Not Found")
    assert http2_head.status_line(b"799") == (799, b"HTTP/1.1 799 ")


def test_trailers_leave_out_what_belongs_in_the_head() -> None:
    lines = http2_head.trailer(((b"grpc-status", b"0"), (b"content-length", b"3"), (b"x-mesh-flag", b"UH")))
    assert lines == b"grpc-status: 0\r\n"
    assert http2_head.pairs(lines) == ((b"grpc-status", b"0"),)
    with pytest.raises(BadHead):
        http2_head.trailer(((b"x", b"a\r\nb: c"),))


def test_lines_become_a_list_without_what_is_of_one_connection() -> None:
    block = (
        b"\r\nHost: a:1\r\nX-One:  two \r\nConnection: close\r\nTransfer-Encoding: chunked\r\nte: gzip\r\n"
    )
    assert http2_head.request_pairs(block) == (b"a:1", ((b"x-one", b"two"),))


NAMES = st.from_regex(re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]{1,12}"), fullmatch=True).map(str.encode)
VALUES = st.from_regex(re.compile(r"(?:[!-~]([\t -~]{0,12}[!-~])?)?"), fullmatch=True).map(str.encode)
SPECIAL = frozenset(
    b"connection keep-alive proxy-connection transfer-encoding upgrade te host cookie content-length "
    b"traceparent http2-settings x-request-id".split()
)


@given(st.lists(st.tuples(NAMES.filter(lambda name: name not in SPECIAL), VALUES), max_size=12))
def test_a_list_is_the_same_after_having_been_a_block(fields: list[tuple[bytes, bytes]]) -> None:
    authority, found = http2_head.request_pairs(asked(*fields).block(ended=True))
    assert (authority, list(found)) == (b"reviews:80", fields)


@given(st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=12)), max_size=6))
def test_whatever_the_list_no_line_is_made_that_was_no_field(fields: list[tuple[bytes, bytes]]) -> None:
    try:
        block = asked(*fields).block(ended=True)
    except BadHead:
        return
    assert block.count(b"\n") == block.count(b"\r") == block.count(b"\r\n")
    cookies = sum(name == b"cookie" for name, _ in fields)
    apart = sum(name in (b"host", b"x-request-id", b"traceparent") for name, _ in fields)
    assert block.count(b"\r\n") >= 2 + len(fields) - cookies - apart
    assert block.count(b"\r\n") <= 2 + len(fields)
