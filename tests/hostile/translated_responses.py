"""HTTP/2 responses that attack who stands behind a proxy and speaks HTTP/1.1, and what must become of each.

Written from RFC 9113 (8.1 to 8.3) and RFC 9110 (6.5, 15.2). What is not said to arrive ends as 502 or 503,
or where its head was out already as a response that is not complete.
"""

from __future__ import annotations

from dataclasses import dataclass

from http2_frames import body, headers

Field = tuple[bytes, bytes]
OK: Field = (b":status", b"200")
SMUGGLED = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-smuggled: 1\r\n\r\n"
"""A response that is hidden in many cases: it must never be one of its own."""


@dataclass(frozen=True)
class Seen:
    """A response as the client must see it; ``fields`` are those among what proxies add, in order."""

    status: int
    body: bytes = b""
    fields: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Case:
    """``frames`` are sent on stream 1. ``outcome`` None: it is refused. ``is_optional``: it may be."""

    name: str
    frames: bytes
    outcome: Seen | None = None
    method: bytes = b"GET"
    is_optional: bool = False


def whole(*fields: Field, payload: bytes = b"hello") -> bytes:
    """Head and body."""
    return headers(1, fields, False) + body(1, payload)


def refused(name: str, *fields: Field, payload: bytes = b"hello") -> Case:
    """A response that is refused for its head, or for what its head says of its body."""
    return Case(f"{name} {fields!r}"[:160], whole(*fields, payload=payload))


STATUSES = [
    refused("status", (b":status", value))
    for value in (
        b"",
        b"20",
        b"2000",
        b"099",
        b"000",
        b"2 0",
        b"abc",
        b"+20",
        b"200 OK",
        b"200\r\nx: y",
        b"200\r\n\r\n" + SMUGGLED,
        b"2\x0000",
        b"\xb2\xb0\xb0",
    )
] + [
    refused("no status", (b"x-a", b"1")),
    refused("nothing"),
    refused("two", OK, OK),
    refused("two", OK, (b":status", b"404")),
    refused("another pseudo-header", OK, (b":path", b"/")),
    refused("another pseudo-header", OK, (b":x", b"y")),
    refused("late", (b"x-a", b"1"), OK),
]
NAMES = [
    refused("name", OK, (name, b"1"))
    for name in (
        b"",
        b" ",
        b"X-Upper",
        b"x y",
        b"x ",
        b" x",
        b"x:",
        b"x\r\ny",
        b"x\ny",
        b"x\x00",
        b"x\x7f",
        b"x\x80",
        b"x(",
        b"content-length\r\nx",
        b"x: y\r\n\r\n" + SMUGGLED,
    )
]
VALUES = [
    refused("value", OK, (name, value))
    for name in (b"x-a", b"content-type", b"set-cookie", b"location")
    for value in (
        b"a\x00b",
        b"a\rb",
        b"a\nb",
        b"a\r\nx: y",
        b"a\r\n\r\n" + SMUGGLED,
        b"a\r\ntransfer-encoding: chunked",
        b"\r",
        b"a\n",
    )
]
CONNECTION = [
    refused("connection", OK, (name, value))
    for name, value in (
        (b"connection", b"close"),
        (b"connection", b"x-a"),
        (b"keep-alive", b"timeout=5"),
        (b"proxy-connection", b"close"),
        (b"upgrade", b"websocket"),
        (b"transfer-encoding", b"chunked"),
        (b"transfer-encoding", b"identity"),
        (b"transfer-encoding", b"gzip"),
    )
]
LENGTHS = [
    refused("length", OK, (b"content-length", value))
    for value in (
        b"4",
        b"6",
        b"+5",
        b"-5",
        b"5, 5",
        b"5,6",
        b"0x5",
        b"",
        b"five",
        b"99999999999999999999",
    )
] + [
    refused("two lengths", OK, (b"content-length", b"5"), (b"content-length", b"6")),
    Case("a length and no body", headers(1, (OK, (b"content-length", b"5")), True)),
    Case("a length and an empty body", headers(1, (OK, (b"content-length", b"5")), False) + body(1, b"")),
    Case(
        "a length, less, and trailers",
        headers(1, (OK, (b"content-length", b"5")), False)
        + body(1, b"1", False)
        + headers(1, ((b"x", b"1"),), True),
    ),
]
ORDER = [
    Case("a body first", body(1, b"hello")),
    Case("two heads", headers(1, (OK,), False) + headers(1, (OK,), False) + body(1, b"hello")),
    Case(
        "trailers that are not the end",
        headers(1, (OK,), False) + headers(1, ((b"x-a", b"1"),), False) + body(1, b"x"),
    ),
    Case("trailers with a status", headers(1, (OK,), False) + body(1, b"x", False) + headers(1, (OK,), True)),
    Case(
        "a trailer with a line break",
        headers(1, (OK,), False) + body(1, b"x", False) + headers(1, ((b"x-a", b"1\r\nb: c"),), True),
    ),
    Case(
        "a trailer that is a head",
        headers(1, (OK,), False) + body(1, b"x", False) + headers(1, ((b"x\r\n\r\nx", SMUGGLED),), True),
    ),
    Case("an interim response that is the end", headers(1, ((b":status", b"100"),), True)),
    Case("switching protocols", headers(1, ((b":status", b"101"),), False) + whole(OK)),
    Case("200 interim responses", headers(1, ((b":status", b"103"),), False) * 200 + whole(OK)),
    Case(
        "an interim response with a line break",
        headers(1, ((b":status", b"103"), (b"link", b"a\r\nb: c")), False) + whole(OK),
    ),
]
SIZES = [
    refused("70 KB", OK, (b"x-large", b"v" * 70_000)),
    refused("400 fields", OK, *((b"x-%d" % number, b"1") for number in range(400))),
]
REFUSED = [*STATUSES, *NAMES, *VALUES, *CONNECTION, *LENGTHS, *ORDER, *SIZES]
ARRIVING = [
    Case("a response", whole(OK), Seen(200, b"hello")),
    Case(
        "with a length", whole(OK, (b"content-length", b"5")), Seen(200, b"hello", (("content-length", "5"),))
    ),
    Case("without body", headers(1, (OK,), True), Seen(200)),
    Case("with an empty body", whole(OK, payload=b""), Seen(200)),
    Case("a body like a response", whole(OK, payload=SMUGGLED), Seen(200, SMUGGLED)),
    Case("a status of one's own", whole((b":status", b"599")), Seen(599, b"hello")),
    Case("no content", headers(1, ((b":status", b"204"),), True), Seen(204)),
    Case(
        "not modified",
        headers(1, ((b":status", b"304"), (b"etag", b"a")), True),
        Seen(304, b"", (("etag", "a"),)),
    ),
    Case("HEAD", headers(1, (OK, (b"content-length", b"5")), True), Seen(200), b"HEAD"),
    Case(
        "cookies stay apart",
        whole(OK, (b"set-cookie", b"a=1; path=/"), (b"set-cookie", b"b=2")),
        Seen(200, b"hello", (("set-cookie", "a=1; path=/"), ("set-cookie", "b=2"))),
    ),
    Case(
        "after interim responses",
        headers(1, ((b":status", b"103"), (b"link", b"</a>")), False) * 3 + whole(OK),
        Seen(200, b"hello"),
    ),
    Case(
        "with trailers",
        headers(1, (OK,), False) + body(1, b"hello", False) + headers(1, ((b"x-sum", b"1"),), True),
        Seen(200, b"hello"),
    ),
    Case(
        "trailers that must not travel",
        headers(1, (OK,), False)
        + body(1, b"hello", False)
        + headers(1, ((b"content-length", b"9"), (b"set-cookie", b"a=1")), True),
        Seen(200, b"hello"),
        is_optional=True,
    ),
    Case(
        "a body beyond", whole(OK, (b"content-length", b"0"), payload=SMUGGLED), Seen(200), is_optional=True
    ),
    Case("a body of 204", whole((b":status", b"204")), Seen(204), is_optional=True),
    Case("a body of 304", whole((b":status", b"304")), Seen(304), is_optional=True),
    Case("a body of HEAD", whole(OK, payload=SMUGGLED), Seen(200), b"HEAD", is_optional=True),
]
CASES = REFUSED + ARRIVING
