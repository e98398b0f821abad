"""Heads and bodies of HTTP/1.1: what is understood, what is cut, what is refused."""

from __future__ import annotations

import pytest

from ray_mesh.proxy.body import BadBody, ChunkedReader, EndlessReader, LengthReader, frame, reader
from ray_mesh.proxy.head import CHUNKED, MAX_FIELDS, BadHead, read_request, read_response, set_apart


def block(*lines: str) -> bytes:
    return ("\r\n" + "".join(f"{line}\r\n" for line in lines)).encode("latin-1")


class TestRequest:
    def test_a_plain_request_travels_as_it_is(self) -> None:
        raw = block("Host: Reviews:9080", "User-Agent: x", "Accept: */*")
        head = read_request(raw, frozenset())
        assert head.fields is raw
        assert head.host == b"reviews:9080"
        assert head.length == 0
        assert not head.closes

    def test_what_is_hop_by_hop_is_cut_and_the_rest_kept_byte_by_byte(self) -> None:
        head = read_request(
            block(
                "Host: a",
                "X-One: 1",
                "Connection: close, X-Private",
                "Keep-Alive: 5",
                "Proxy-Authorization: Basic abc",
                "TE: trailers",
                "x-private: secret",
                "X-Mesh-Source: forged",
                "X-Two:2",
            ),
            frozenset(),
        )
        assert head.fields == block("Host: a", "X-One: 1", "X-Two:2")
        assert head.closes
        assert head.named(b"x-private") is None, "no route may match what the next hop does not get"
        assert head.credential == b"Basic abc"
        assert head.source == b"forged"

    def test_dropped_fields(self) -> None:
        raw = block(
            "Host: a", "X-Forwarded-For: 1.1.1.1", "x-forwarded-host: b", "X-Request-Id: Q", "Traceparent: T"
        )
        kept = read_request(raw, frozenset())
        assert kept.fields == block("Host: a", "X-Forwarded-For: 1.1.1.1", "x-forwarded-host: b")
        assert (kept.request_id, kept.traceparent, kept.forwarded_for) == (b"Q", b"t", b"1.1.1.1")
        assert read_request(raw, frozenset({b"x-forwarded-"})).fields == block("Host: a")

    def test_lengths(self) -> None:
        assert read_request(block("Host: a", "Content-Length: 12 "), frozenset()).length == 12
        chunked = read_request(block("Host: a", "Transfer-Encoding: Chunked"), frozenset())
        assert chunked.length == CHUNKED
        assert chunked.fields == block("Host: a")

    def test_named_joins_values(self) -> None:
        head = read_request(block("Host: a", "A: 1", "a:2"), frozenset())
        assert head.named(b"a") == b"1, 2"
        assert head.values(b"a") == [b"1", b"2"]
        assert head.named(b"b") is None

    @pytest.mark.parametrize(
        ("lines", "code"),
        [
            ((), 400),
            (("Host: a", "Host: b"), 400),
            (("Host: a", "Content-Length: 1", "Content-Length: 1"), 400),
            (("Host: a", "Content-Length: 1, 1"), 400),
            (("Host: a", "Content-Length: +1"), 400),
            (("Host: a", "Content-Length: 0x1"), 400),
            (("Host: a", "Content-Length:"), 400),
            (("Host: a", "Content-Length: 5", "Transfer-Encoding: chunked"), 400),
            (("Host: a", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), 400),
            (("Host: a", "Transfer-Encoding: gzip, chunked"), 501),
            (("Host: a", "Transfer-Encoding: xchunked"), 501),
            (("Host: a", "Expect: something"), 417),
            (("Host: a", "Connection: Content-Length", "Content-Length: 3"), 400),
            (("Host: a", "Connection: host"), 400),
            (("Host: a", "Proxy-Authorization: a", "Proxy-Authorization: b"), 400),
            (("Host: a", *[f"x-{number}: y" for number in range(MAX_FIELDS)]), 431),
        ],
    )
    def test_what_is_ambiguous_or_too_large_is_refused(self, lines: tuple[str, ...], code: int) -> None:
        with pytest.raises(BadHead) as refused:
            read_request(block(*lines), frozenset())
        assert refused.value.code == code


class TestSetApart:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    def head(self, *fields: str) -> bytes:
        return b"GET / HTTP/1.1" + block("Host: a", *fields, "X: y") + b"\r\n"

    def test_what_differs_in_every_request_is_taken_out(self) -> None:
        raw = self.head(f"traceparent: {self.parent}", "x-request-id: 12-ab")
        assert set_apart(raw) == (self.head(), self.parent.encode(), b"12-ab")
        assert set_apart(self.head()) == (self.head(), b"", b"")

    @pytest.mark.parametrize(
        "field",
        [
            f"Traceparent: {parent}",
            f"traceparent:{parent}",
            f"traceparent: {parent}0",
            f"traceparent: {parent[:-1]}",
            f"traceparent: ff{parent[2:]}",
            "x-request-id: ",
            "x-request-id: a b",
            "x-request-id: a\x00b",
            "x-request-id: " + "a" * 200,
            "X-Request-Id: a",
        ],
    )
    def test_whatever_looks_otherwise_stays(self, field: str) -> None:
        assert set_apart(self.head(field)) == (self.head(field), b"", b"")

    def test_only_one_of_each_is_taken(self) -> None:
        twice = self.head("x-request-id: a", "x-request-id: b")
        assert set_apart(twice) == (self.head("x-request-id: b"), b"", b"a")


class TestResponse:
    def test_a_plain_response_travels_as_it_is(self) -> None:
        raw = block("Content-Length: 3", "Content-Type: text/plain")
        head = read_response(raw, trusts_mesh_fields=False)
        assert head.fields is raw
        assert head.length == 3

    def test_mesh_fields_pass_from_proxies_only(self) -> None:
        raw = block("Content-Length: 3", "x-mesh-flag: UAEX")
        assert read_response(raw, trusts_mesh_fields=True).fields == raw
        assert read_response(raw, trusts_mesh_fields=False).fields == block("Content-Length: 3")

    def test_length_until_the_end(self) -> None:
        head = read_response(block("Connection: close", "Content-Type: x"), trusts_mesh_fields=False)
        assert head.length is None
        assert head.closes
        assert head.fields == block("Content-Type: x")

    @pytest.mark.parametrize(
        "lines",
        [
            ("Content-Length: 1", "Content-Length: 2"),
            ("Content-Length: 1", "Transfer-Encoding: chunked"),
            ("Transfer-Encoding: identity",),
            ("Content-Length: -1",),
        ],
    )
    def test_what_is_ambiguous_is_refused(self, lines: tuple[str, ...]) -> None:
        with pytest.raises(BadHead):
            read_response(block(*lines), trusts_mesh_fields=True)


class TestBody:
    def test_a_length(self) -> None:
        body = LengthReader(5)
        assert body.feed(b"abc") == (b"abc", None)
        assert body.feed(b"deGET") == (b"de", b"GET")
        assert reader(CHUNKED).__class__ is ChunkedReader
        assert EndlessReader().feed(b"x") == (b"x", None)

    def test_chunks(self) -> None:
        body = ChunkedReader()
        assert body.feed(b"3\r\nabc\r\nA;ext=1\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nGET") == (
            b"abc0123456789",
            b"GET",
        )

    def test_framing_and_reading_are_inverse(self) -> None:
        assert ChunkedReader().feed(frame(b"abc") + frame(b"") + frame(b"d" * 300) + b"0\r\n\r\n") == (
            b"abc" + b"d" * 300,
            b"",
        )

    @pytest.mark.parametrize(
        "raw",
        [
            b"g\r\n",
            b"-1\r\n",
            b"+1\r\n",
            b"0x1\r\n",
            b"1 \r\n",
            b" 1\r\n",
            b"\r\n",
            b"1\na\r\n",
            b"1\r\nab\r\n",
            b"1\r\na\n\r",
            b"1\r\naX\n",
            b"FFFFFFFFFFFFFFFFF\r\n",
            b"1;a\x00\r\n",
            b"1;" + b"x" * 600,
            b"0\r\nbad trailer\r\n\r\n",
            b"0\r\n folded: x\r\n\r\n",
            b"0\r\n" + b"a: " + b"x" * 20000,
        ],
    )
    def test_bad_chunks_are_refused(self, raw: bytes) -> None:
        with pytest.raises(BadBody):
            ChunkedReader().feed(raw)
