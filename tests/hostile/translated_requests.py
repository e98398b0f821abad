"""HTTP/2 requests that attack what stands behind a proxy, called by HTTP/1.1, and what must become of each.

Written from RFC 9113 (8.1 to 8.3) and from public advisories about requests that are smuggled where HTTP/2
becomes HTTP/1.1. Everything that is not said to arrive is refused: by a reset of its stream, by a status of
400 and more, or by the end of its connection.
"""

from __future__ import annotations

from dataclasses import dataclass

TAIL = b"GET /smuggled HTTP/1.1\r\nhost: shop\r\n\r\n"
"""A request that is hidden in many cases: it must never be seen by the application."""
Field = tuple[bytes, bytes]
GET: tuple[Field, ...] = (
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":path", b"/"),
    (b":authority", b"shop"),
)
POST: tuple[Field, ...] = ((b":method", b"POST"), *GET[1:])


@dataclass(frozen=True)
class Seen:
    """A request as the application must see it; ``fields`` without those that proxies add, in any order."""

    line: bytes
    fields: tuple[Field, ...] = ((b"host", b"shop"),)
    body: bytes = b""


@dataclass(frozen=True)
class Case:
    """``body`` None: the head ends the stream. ``outcome`` None: it is refused. ``is_optional``: it may be
    refused instead, also once it arrived, but must not arrive otherwise."""

    name: str
    fields: tuple[Field, ...]
    body: bytes | None = None
    trailers: tuple[Field, ...] = ()
    outcome: Seen | None = None
    is_optional: bool = False


def get(name: str, *fields: Field, **pseudo: bytes) -> Case:
    """A GET with more fields, and with some pseudo-headers changed; it must be refused."""
    return Case(f"{name} {fields or pseudo!r}"[:160], (*_with(GET, pseudo), *fields))


def post(name: str, *fields: Field, payload: bytes = TAIL) -> Case:
    """A POST whose body is a request; it must be refused."""
    return Case(f"{name} {fields!r}"[:160], (*POST, *fields), payload)


def _with(fields: tuple[Field, ...], pseudo: dict[str, bytes]) -> tuple[Field, ...]:
    changed = {b":" + name.encode(): value for name, value in pseudo.items()}
    return tuple((name, changed.get(name, value)) for name, value in fields)


def _without(name: bytes, fields: tuple[Field, ...] = GET) -> tuple[Field, ...]:
    return tuple(pair for pair in fields if pair[0] != name)


INJECTION = b"x\r\ntransfer-encoding: chunked\r\nx: y"
SECOND = b"x\r\n\r\n" + TAIL

NAMES = [
    get("name", (b"x" + bytes((byte,)) + b"y", b"1"))
    for byte in b'()<>@,;\\"/[]?={}: \t\x00\r\n\x01\x0b\x7f\x80\xff'
] + [
    get("name", (name, b"1"))
    for name in (
        b"",
        b" ",
        b"X-Upper",
        b"x-uppeR",
        b"x ",
        b" x",
        b"x:",
        b"x: y\r\nz",
        b"transfer-encoding: chunked\r\nx",
        b"transfer-encoding ",
        b" transfer-encoding",
        b"transfer-encoding:chunked",
        b"content-length\r",
        b"content-length\x00",
        b"x\r\n\r\n" + TAIL,
    )
]
VALUES = [
    get("value", (b"x-a", value))
    for value in (
        b"\x00",
        b"a\x00b",
        b"a\rb",
        b"a\nb",
        b"a\r\nb: c",
        b"a\n\nb",
        b"a\r",
        b"a\n",
        b"\r\n",
        b"a\x01b",
        b"a\x7fb",
        INJECTION,
        SECOND,
    )
] + [
    get("cookie", (b"cookie", b"a=1\r\ntransfer-encoding: chunked")),
    get("host", (b"host", b"shop\r\nx: y")),
    get("known", (b"user-agent", b"a\r\nb: c")),
    get("known", (b"content-type", SECOND)),
    get("known", (b"x-request-id", INJECTION)),
    get("known", (b"traceparent", INJECTION)),
    get("known", (b"x-forwarded-for", INJECTION)),
    get("known", (b"grpc-timeout", INJECTION)),
    get("known", (b"x-mesh-source", INJECTION)),
    get("known", (b"proxy-authorization", INJECTION)),
]
PSEUDO = (
    [
        get("method", method=value)
        for value in (
            b"",
            b" ",
            b"GE T",
            b"GET ",
            b" GET",
            b"GET\r\nx: y",
            b"GET / HTTP/1.1\r\nx: y",
            b"GET\x00",
            b"G\tT",
            b"GET:",
            b"G\x80T",
            b"(GET)",
            b"get",
            b"GET / HTTP/1.1\r\nhost: shop\r\n\r\nGET",
        )
    ]
    + [
        get("path", path=value)
        for value in (
            b"",
            b" ",
            b"x",
            b"?a",
            b"*",
            b"/ x",
            b"/ HTTP/1.1",
            b"/ HTTP/1.1\r\nx: y\r\nz:",
            b"/ HTTP/1.1\r\nhost: shop\r\n\r\nGET /smuggled",
            b"/\r\nx: y",
            b"/a\nb",
            b"/a\rb",
            b"/a\x00b",
            b"/a\tb",
            b"/a\x01b",
            b"/a\x7fb",
            b"http://shop/",
            b"http://evil/",
            b"//evil\r\n/",
            b" /",
            b"/ ",
        )
    ]
    + [
        get("authority", authority=value)
        for value in (
            b" ",
            b"shop ",
            b" shop",
            b"sh op",
            b"shop\r\nx: y",
            b"shop\r\ntransfer-encoding: chunked",
            b"shop\x00",
            b"shop\n",
            b"shop/a",
            b"shop?a",
            b"shop#a",
            b"user@shop",
            b"shop:",
            b"shop:80:80",
            b"shop:x",
            b"shop,shop",
            b"sh\x80p",
            b"[::1",
            b"",
        )
    ]
    + [get("scheme", scheme=value) for value in (b"http\r\nx: y", b"http ", b"", b"ht\x00tp")]
)
STRUCTURE = [
    Case("no method", _without(b":method")),
    Case("no path", _without(b":path")),
    Case("no scheme", _without(b":scheme")),
    Case("no authority and no host", _without(b":authority")),
    Case("two methods", (GET[0], *GET)),
    Case("two other methods", ((b":method", b"POST"), *GET)),
    Case("two paths", (GET[2], *GET)),
    Case("two schemes", (GET[1], *GET)),
    Case("two authorities", (GET[3], *GET)),
    Case("two other authorities", ((b":authority", b"evil"), *GET)),
    Case("a pseudo-header of responses", ((b":status", b"200"), *GET)),
    Case("an unknown pseudo-header", ((b":x", b"y"), *GET)),
    Case("a pseudo-header without name", ((b":", b"y"), *GET)),
    Case("a pseudo-header after a field", (*GET[:3], (b"x-a", b"1"), GET[3])),
    Case("a path after a field", (*GET[:2], (b"x-a", b"1"), *GET[2:])),
    Case(
        "a protocol that nobody offered", ((b":protocol", b"websocket"), (b":method", b"CONNECT"), *GET[1:])
    ),
    Case("only fields", ((b"x-a", b"1"),)),
    Case("nothing", ()),
    Case("CONNECT with a path", ((b":method", b"CONNECT"), *GET[1:])),
    Case("CONNECT", ((b":method", b"CONNECT"), (b":authority", b"shop:80"))),
    get("another host", (b"host", b"evil")),
    get("two hosts", (b"host", b"shop"), (b"host", b"shop")),
    get("two hosts", (b"host", b"shop"), (b"host", b"evil")),
    Case("two hosts without authority", (*_without(b":authority"), (b"host", b"shop"), (b"host", b"evil"))),
    Case("a bad host without authority", (*_without(b":authority"), (b"host", b"sh op"))),
    Case("an empty host without authority", (*_without(b":authority"), (b"host", b""))),
]
CONNECTION = [
    post("connection", (name, value))
    for name, value in (
        (b"connection", b"close"),
        (b"connection", b"keep-alive"),
        (b"connection", b"x-forwarded-for"),
        (b"connection", b"content-length"),
        (b"connection", b"transfer-encoding, upgrade"),
        (b"keep-alive", b"timeout=5"),
        (b"proxy-connection", b"close"),
        (b"upgrade", b"websocket"),
        (b"upgrade", b"h2c"),
        (b"transfer-encoding", b"chunked"),
        (b"transfer-encoding", b"identity"),
        (b"transfer-encoding", b""),
        (b"transfer-encoding", b"xchunked"),
        (b"transfer-encoding", b"gzip, chunked"),
        (b"te", b"gzip"),
        (b"te", b"chunked"),
        (b"te", b"trailers, chunked"),
    )
] + [
    post("both", (b"content-length", b"%d" % len(TAIL)), (b"transfer-encoding", b"chunked")),
    post("both", (b"transfer-encoding", b"chunked"), (b"content-length", b"%d" % len(TAIL))),
    Case("chunked without body", (*POST, (b"transfer-encoding", b"chunked"))),
]
LENGTHS = [
    post("length", (b"content-length", value))
    for value in (
        b"1",
        b"%d" % (len(TAIL) - 1),
        b"%d" % (len(TAIL) + 1),
        b"+%d" % len(TAIL),
        b"-1",
        b"0x26",
        b"",
        b"five",
        b"%d, %d" % (len(TAIL), len(TAIL)),
        b"%d;" % len(TAIL),
        b"%d.0" % len(TAIL),
        b"99999999999999999999",
        b"18446744073709551654",
        b"%d\r\nx: y" % len(TAIL),
        b"\xb2",
    )
] + [
    post("two lengths", (b"content-length", b"0"), (b"content-length", b"%d" % len(TAIL))),
    post("two lengths", (b"content-length", b"%d" % len(TAIL)), (b"content-length", b"0")),
    Case("a length and no body", (*POST, (b"content-length", b"5"))),
    Case("a length and an empty body", (*POST, (b"content-length", b"5")), b""),
    Case(
        "a length, a short body and trailers", (*POST, (b"content-length", b"9")), b"12345", ((b"x-a", b"1"),)
    ),
]
TRAILERS = [
    Case(f"trailer {pair!r}", POST, b"12345", (pair,))
    for pair in (
        (b":path", b"/"),
        (b":status", b"200"),
        (b"X-Upper", b"1"),
        (b"x", b"a\r\nb: c"),
        (b"x\r\n\r\nGET", b"1"),
        (b"x y", b"1"),
        (b"connection", b"close"),
        (b"transfer-encoding", b"chunked"),
        (b"x", b"a\x00b"),
    )
]
SIZES = [
    Case("a field of 70 KB", (*GET, (b"x-large", b"v" * 70_000))),
    Case("400 fields", (*GET, *((b"x-%d" % number, b"1") for number in range(400)))),
    Case("a name of 70 KB", (*GET, (b"n" * 70_000, b"1"))),
    Case("a path of 70 KB", _with(GET, {"path": b"/" + b"p" * 70_000})),
    Case("4,000 empty fields", (*GET, *((b"x", b"") for _ in range(4000)))),
]
REFUSED = [*NAMES, *VALUES, *PSEUDO, *STRUCTURE, *CONNECTION, *LENGTHS, *TRAILERS, *SIZES]

HOST = (b"host", b"shop")
SIZED = (b"content-length", b"%d" % len(TAIL))
CHUNKED = (b"transfer-encoding", b"chunked")
ARRIVING = [
    Case(
        "a body beyond a length of 0",
        (*POST, (b"content-length", b"0")),
        TAIL,
        outcome=Seen(b"POST / HTTP/1.1", (HOST, (b"content-length", b"0"))),
        is_optional=True,
    ),
    Case("a request", GET, outcome=Seen(b"GET / HTTP/1.1")),
    Case("an empty body", POST, b"", outcome=Seen(b"POST / HTTP/1.1", (HOST, CHUNKED))),
    Case("a body that is a request", POST, TAIL, outcome=Seen(b"POST / HTTP/1.1", (HOST, CHUNKED), TAIL)),
    Case("a sized body", (*POST, SIZED), TAIL, outcome=Seen(b"POST / HTTP/1.1", (HOST, SIZED), TAIL)),
    Case(
        "a large body",
        POST,
        TAIL * 1500,
        outcome=Seen(b"POST / HTTP/1.1", (HOST, CHUNKED), TAIL * 1500),
    ),
    Case("GET with a body", GET, TAIL, outcome=Seen(b"GET / HTTP/1.1", (HOST, CHUNKED), TAIL)),
    Case(
        "cookies in parts",
        (*GET, (b"cookie", b"a=1"), (b"x-a", b"1"), (b"cookie", b"b=2; c=3"), (b"cookie", b"d=4")),
        outcome=Seen(b"GET / HTTP/1.1", (HOST, (b"cookie", b"a=1; b=2; c=3; d=4"), (b"x-a", b"1"))),
    ),
    Case("the same host", (*GET, HOST), outcome=Seen(b"GET / HTTP/1.1")),
    Case("host for authority", (*_without(b":authority"), HOST), outcome=Seen(b"GET / HTTP/1.1")),
    Case(
        "options of all",
        _with(GET, {"method": b"OPTIONS", "path": b"*"}),
        outcome=Seen(b"OPTIONS * HTTP/1.1"),
    ),
    Case("trailers are understood", (*GET, (b"te", b"trailers")), outcome=Seen(b"GET / HTTP/1.1")),
    Case("an empty value", (*GET, (b"x-a", b"")), outcome=Seen(b"GET / HTTP/1.1", (HOST, (b"x-a", b"")))),
    Case(
        "bytes beyond ASCII",
        (*GET, (b"x-a", b"\xe4\xff")),
        outcome=Seen(b"GET / HTTP/1.1", (HOST, (b"x-a", b"\xe4\xff"))),
    ),
    Case(
        "fields that look like framing",
        (*GET, (b"transfer_encoding", b"chunked"), (b"x-content-length", b"5")),
        outcome=Seen(
            b"GET / HTTP/1.1", (HOST, (b"transfer_encoding", b"chunked"), (b"x-content-length", b"5"))
        ),
    ),
    Case(
        "a method of one's own",
        _with(GET, {"method": b"VERSION-CONTROL"}),
        outcome=Seen(b"VERSION-CONTROL / HTTP/1.1"),
    ),
    Case(
        "a port",
        _with(GET, {"authority": b"shop:80"}),
        outcome=Seen(b"GET / HTTP/1.1", ((b"host", b"shop:80"),)),
    ),
    Case(
        "another scheme", _with(GET, {"scheme": b"https"}), outcome=Seen(b"GET / HTTP/1.1"), is_optional=True
    ),
    *(
        Case(
            f"white space around {value!r}",
            (*GET, (b"x-a", value)),
            outcome=Seen(b"GET / HTTP/1.1", (HOST, (b"x-a", value.strip()))),
            is_optional=True,
        )
        for value in (b" a", b"a ", b"\ta", b"a\t", b" ")
    ),
    Case(
        "a length said twice",
        (*POST, SIZED, SIZED),
        TAIL,
        outcome=Seen(b"POST / HTTP/1.1", (HOST, SIZED), TAIL),
        is_optional=True,
    ),
    Case(
        "a fragment",
        _with(GET, {"path": b"/a#b"}),
        outcome=Seen(b"GET /a HTTP/1.1"),
        is_optional=True,
    ),
]
CASES = REFUSED + ARRIVING
