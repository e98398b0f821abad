"""Requests that attack a proxy, and what must become of each.

Written from RFC 9110, 9112 and 3986 and from public advisories about request smuggling. A case is what a
client sends on one connection, and what follows: the number of a refusal, after which the connection is
closed, or the bytes that reach the application (without what proxies add, bodies decoded). Everything else
is a failure.
"""

from __future__ import annotations

from dataclasses import dataclass

TAIL = b"GET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n"
"""A request that is hidden in many cases: it must never be seen alone where it is part of something bad."""


@dataclass(frozen=True)
class Case:
    """What is sent, and what comes of it, in order."""

    name: str
    sent: bytes
    outcome: tuple[int | bytes, ...]


def head(*fields: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes = b"Host: shop") -> bytes:
    """A request without body."""
    lines = [line, host, *fields] if host else [line, *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def post(*fields: bytes, body: bytes = b"") -> bytes:
    """A POST with a body that its fields describe somehow."""
    return head(*fields, line=b"POST / HTTP/1.1") + body


def chunked(body: bytes) -> bytes:
    """A POST whose body should be chunked."""
    return post(b"Transfer-Encoding: chunked", body=body)


def refused(name: str, sent: list[bytes], code: int = 400) -> list[Case]:
    """Cases that end with the same refusal."""
    return [Case(f"{name} {number}: {each[:120]!r}", each, (code,)) for number, each in enumerate(sent)]


SMUGGLED_CHUNK = b"0\r\n\r\n" + TAIL
CHUNKED_FIELD = b"Transfer-Encoding: chunked"

BOTH_LENGTHS = [
    post(b"Content-Length: 6", CHUNKED_FIELD, body=SMUGGLED_CHUNK),
    post(CHUNKED_FIELD, b"Content-Length: 6", body=SMUGGLED_CHUNK),
    post(b"Content-Length: 0", CHUNKED_FIELD, body=SMUGGLED_CHUNK),
    post(CHUNKED_FIELD, b"X: y", b"content-length: 46", body=SMUGGLED_CHUNK),
    post(b"TRANSFER-ENCODING: CHUNKED", b"CONTENT-LENGTH: 5", body=SMUGGLED_CHUNK),
    head(CHUNKED_FIELD, b"Content-Length: 5") + SMUGGLED_CHUNK,
]

CODING_FIELDS_400 = (
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding\t: chunked",
    b"Transfer-Encoding\x0b: chunked",
    b"Transfer-Encoding\x00: chunked",
    b"Transfer-Encoding\xff: chunked",
    b"Transfer-Encoding:\x00chunked",
    b"Transfer-Encoding: chunked\x00",
    b"Transfer-Encoding: \x01chunked",
    b" Transfer-Encoding: chunked",
    b"\tTransfer-Encoding: chunked",
    b"X: y\r\n Transfer-Encoding: chunked",
    b"X: y\r\n\tTransfer-Encoding: chunked",
    b"Transfer-Encoding:\r\n chunked",
    b"Transfer-Encoding: chunked\r\n , identity",
    b"X: y\rTransfer-Encoding: chunked",
    b"X: y\nTransfer-Encoding: chunked",
    b"X: y\r\rTransfer-Encoding: chunked",
    b"X: y\n\rTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\nX: y",
    b"Transfer-Encoding chunked",
    b"Transfer Encoding: chunked",
    b"\x00Transfer-Encoding: chunked",
    b"(Transfer-Encoding: chunked",
)
CODINGS_400 = [post(field, body=SMUGGLED_CHUNK) for field in CODING_FIELDS_400]

CODING_FIELDS = (
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: chunkedx",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: gzip",
    b"Transfer-Encoding: chunked;q=1",
    b'Transfer-Encoding: "chunked"',
    b"Transfer-Encoding: 'chunked'",
    b"Transfer-Encoding: chun ked",
    b"Transfer-Encoding: chunked,",
    b"Transfer-Encoding: ,chunked",
    b"Transfer-Encoding: chunked ,",
    b"Transfer-Encoding:",
    b"Transfer-Encoding: cow",
    b"Transfer-Encoding: \xa0chunked",
    b"Transfer-Encoding: chunked\x0b",
    b"Transfer-Encoding: \x0cchunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: \r\nTransfer-Encoding: chunked",
)
CODINGS = [post(field, body=SMUGGLED_CHUNK) for field in CODING_FIELDS]
"""Refused with 400 or 501: which of the two is no matter of safety."""

LENGTH_FIELDS = (
    b"Content-Length: +5",
    b"Content-Length: -5",
    b"Content-Length: 5 5",
    b"Content-Length: 5,5",
    b"Content-Length: 5, 5",
    b"Content-Length: 5,6",
    b"Content-Length: 0x5",
    b"Content-Length: 5;",
    b"Content-Length: 5.0",
    b"Content-Length: 1e1",
    b"Content-Length: 1_0",
    b"Content-Length: five",
    b'Content-Length: "5"',
    b"Content-Length:",
    b"Content-Length:  ",
    b"Content-Length: 5\x00",
    b"Content-Length: \x005",
    b"Content-Length: 5\x0b",
    b"Content-Length: \xb2",
    b"Content-Length: \xef\xbc\x95",
    b"Content-Length: 99999999999999999999",
    b"Content-Length: 18446744073709551621",
    b"Content-Length: 9223372036854775808",
    b"Content-Length: 5\r\nContent-Length: 5",
    b"Content-Length: 5\r\nContent-Length: 6",
    b"Content-Length: 0\r\nContent-Length: 5",
    b"Content-Length: 5\r\nX: y\r\ncontent-length: 5",
    b"Content-Length : 5",
    b"Content-Length\t: 5",
    b"Content-Length\x00: 5",
    b" Content-Length: 5",
    b"Content-Length:\r\n 5",
    b"Content-Length: 5\r\n 6",
    b"Content-Length: 5\r\n ,6",
    b"X: y\rContent-Length: 5",
    b"X: y\nContent-Length: 5",
)
LENGTHS = [post(field, body=b"hello" + TAIL) for field in LENGTH_FIELDS]

NAMES = [
    head(b"X" + bytes((byte,)) + b"Y: 1") for byte in b'()<>@,;\\"/[]?={} \t\x00\x01\x0b\x7f\x80\xff'
] + [
    head(b": no name"),
    head(b" : blank name"),
    head(b"no colon"),
    head(b"X : y"),
    head(b"X\t: y"),
    head(b"Host : shop", host=b""),
    head(b" X: y", host=b""),
    head(host=b" Host: shop"),
]

VALUES = [
    head(b"X: a" + byte + b"b") for byte in (b"\x00", b"\r", b"\n", b"\x01", b"\x08", b"\x1b", b"\x7f")
] + [
    head(b"X: a\r\n b"),
    head(b"X: a\r\n\tb"),
    head(b"X: a\r\n \r\n b"),
    head(b"X:\r\n "),
    head(b"X: a\r\r"),
    head(b"X: \r\x00"),
]

LINE_ENDS = [
    head().replace(b"\r\n", b"\n"),
    head().replace(b"\r\n", b"\n\r"),
    head().replace(b"\r\n", b"\r\r\n"),
    b"GET / HTTP/1.1\nHost: shop\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: shop\n\r\n",
    b"GET / HTTP/1.1\r\nHost: shop\r\n\n",
    b"GET / HTTP/1.1\r\nHost: shop\n\n",
    b"GET / HTTP/1.1\r\nHost: shop\r\n\r\r\n\r\n",
    b"GET / HTTP/1.1\rHost: shop\r\n\r\n",
    b"\n" + head(),
    b"\r" + head(),
    b" " + head(),
    b"\x00" + head(),
    b"\r\n\n" + head(),
    b"\xef\xbb\xbf" + head(),
]

LINES = [
    head(line=line)
    for line in (
        b"GET  / HTTP/1.1",
        b"GET /  HTTP/1.1",
        b" GET / HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"GET\t/ HTTP/1.1",
        b"GET /\tHTTP/1.1",
        b"GET\x0b/ HTTP/1.1",
        b"GET / HTTP/1.1\x00",
        b"GET\x00 / HTTP/1.1",
        b"G\x00ET / HTTP/1.1",
        b"GET / http/1.1",
        b"GET / HTTP/1.1.1",
        b"GET / HTTP/01.1",
        b"GET / HTTP/1.01",
        b"GET / HTTP/1.10",
        b"GET / HTTP/1,1",
        b"GET / HTTP/1.",
        b"GET / HTTP/11",
        b"GET / HTTP/-1.1",
        b"GET / HTTP/0.9",
        b"GET / HTTP/1.2",
        b"GET / HTTP/2.0",
        b"GET / HTTP/3",
        b"GET / HTTPS/1.1",
        b"GET / HTTP /1.1",
        b"GET / ICE/1.0",
        b"GET / RTSP/1.0",
        b"DESCRIBE / RTSP/1.0",
        b"SOURCE / ICE/1.0",
        b"GET / ",
        b"GET /",
        b"GET",
        b"get / HTTP/1.1",
        b"G(T / HTTP/1.1",
        b"GET/ HTTP/1.1",
        b"/ HTTP/1.1",
        b"HTTP/1.1 200 OK",
        b"PRI * HTTP/2.0",
    )
]

TARGETS = [
    head(line=b"GET %b HTTP/1.1" % target)
    for target in (
        b"x",
        b"x/y",
        b"?q",
        b"*",
        b"*x",
        b"/a b",
        b"/\x00",
        b"/a\x01",
        b"/a\x7f",
        b"/\xff",
        b"/\xc0\xae\xc0\xae/",
        b"/?\xff",
        b"/a#f",
        b"/?a#f",
        b"/%",
        b"/%2",
        b"/%zz",
        b"/%00",
        b"/a%00b",
        b"/%%32e",
        b"/%u002e",
        b"http:/shop/",
        b"http:///",
        b"http://",
        b"http:shop",
        b"https://shop/",
        b"ftp://shop/",
        b"ws://shop/",
        b"javascript:alert(1)",
        b"shop:80",
        b"http://user@shop/",
        b"http://user:pw@shop/",
        b"http://shop@evil/",
        b"http://evil\\@shop/",
        b"http://shop%2f@evil/",
        b"http://shop,evil/",
        b"http://shop:80:80/",
        b"http://shop:99999/",
        b"http://shop:0/",
        b"http://shop:a/",
        b"http://shop:-1/",
        b"http://[::1/",
        b"http://[::1]x/",
        b"http://sh%6fp/",
        b"http://shop#@evil/",
        b"http://shop\\evil/",
        b"http://shop<evil/",
    )
]

HOSTS = [
    head(host=b"Host: " + host)
    for host in (
        b"",
        b".",
        b"a b",
        b"shop evil",
        b"shop,evil",
        b"shop/evil",
        b"shop\\evil",
        b"shop?evil",
        b"shop#evil",
        b"shop@evil",
        b"user@shop",
        b"http://shop",
        b"shop:80:80",
        b"shop:a",
        b"shop:",
        b"shop:-1",
        b"shop:0",
        b"shop:65536",
        b"shop:080000",
        b"[::1",
        b"::1",
        b"sh%6fp",
        b"sh\xc3\xb6p",
        b'shop"',
        b"shop\x00",
        b"shop\x0bevil",
        b"shop\r\n evil",
    )
] + [
    head(host=b""),
    head(b"Host: shop"),
    head(b"Host: evil"),
    head(b"X: y", b"hOST: evil"),
    head(b"Host: shop", line=b"GET http://shop/ HTTP/1.1"),
    head(line=b"GET http://shop/ HTTP/1.1", host=b""),
    head(line=b"GET / HTTP/1.0", host=b""),
]

CHUNKED_BODIES = (
    b"g\r\nhello\r\n0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"-5\r\nhello\r\n0\r\n\r\n",
    b"+5\r\nhello\r\n0\r\n\r\n",
    b" 5\r\nhello\r\n0\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n",
    b"5\t\r\nhello\r\n0\r\n\r\n",
    b"5\x0b\r\nhello\r\n0\r\n\r\n",
    b"5\x00\r\nhello\r\n0\r\n\r\n",
    b"\r\n5\r\nhello\r\n0\r\n\r\n",
    b"5\nhello\r\n0\r\n\r\n",
    b"5\rhello\r\n0\r\n\r\n",
    b"5\r\r\nhello\r\n0\r\n\r\n",
    b"5,\r\nhello\r\n0\r\n\r\n",
    b"5.0\r\nhello\r\n0\r\n\r\n",
    b"1_0\r\nhello\r\n0\r\n\r\n",
    b"5h\r\nhello\r\n0\r\n\r\n",
    b"\xef\xbc\x95\r\nhello\r\n0\r\n\r\n",
    b"FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
    b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    b"0" * 600 + b"5\r\nhello\r\n0\r\n\r\n",
    b"5;\r\nhello\r\n0\r\n\r\n",
    b"5;=b\r\nhello\r\n0\r\n\r\n",
    b"5;a=\r\nhello\r\n0\r\n\r\n",
    b"5;a==b\r\nhello\r\n0\r\n\r\n",
    b"5;a b\r\nhello\r\n0\r\n\r\n",
    b'5;a="b\r\nhello\r\n0\r\n\r\n',
    b'5;a="b"c\r\nhello\r\n0\r\n\r\n',
    b"5;a=b;\r\nhello\r\n0\r\n\r\n",
    b"5;a\nhello\r\n0\r\n\r\n",
    b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    b"5;a\x00\r\nhello\r\n0\r\n\r\n",
    b"5;(\r\nhello\r\n0\r\n\r\n",
    b"5;a=" + b"x" * 600 + b"\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhelloX\r\n0\r\n\r\n",
    b"5\r\nhell\r\n0\r\n\r\n",
    b"5\r\nhello\n0\r\n\r\n",
    b"5\r\nhello\r0\r\n\r\n",
    b"5\r\nhello\r\r\n0\r\n\r\n",
    b"5\r\nhelloXX0\r\n\r\n",
    b"5\r\nhello0\r\n\r\n",
    b"5\r\nhello\r\n-0\r\n\r\n",
    b"5\r\nhello\r\n0 \r\n\r\n",
    b"5\r\nhello\r\n0\n\n",
    b"5\r\nhello\r\n0\r\n\n",
    b"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
    b"5\r\nhello\r\n0\r\n X: y\r\n\r\n",
    b"5\r\nhello\r\n0\r\n: y\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX: a\x00b\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX: a\rb\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX: a\nY: b\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX: a\r\n b\r\n\r\n",
    b"5\r\nhello\r\n0\r\n(X): a\r\n\r\n",
    b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 101 + b"\r\n",
    b"5\r\nhello\r\n0\r\nX: " + b"y" * 17_000 + b"\r\n\r\n",
)
CHUNKS = [chunked(body + TAIL) for body in CHUNKED_BODIES]

OPTIONS = [
    post(b"Connection: content-length", b"Content-Length: 5", body=b"hello"),
    post(b"Connection: close, Content-Length", b"Content-Length: 5", body=b"hello"),
    head(b"Connection: host"),
    head(b"Connection: HOST, x"),
    head(b"Connection: authorization", b"Authorization: x"),
    head(b"Connection: cookie", b"Cookie: a=b"),
    head(b"Connection: expect", b"Expect: 100-continue"),
]

UPGRADES = [
    post(b"Connection: upgrade", b"Upgrade: websocket", b"Content-Length: 38", body=TAIL),
    post(b"Connection: upgrade", b"Upgrade: websocket", CHUNKED_FIELD, body=SMUGGLED_CHUNK),
    head(b"Connection: upgrade", b"Upgrade: web socket"),
    head(b"Connection: upgrade", b"Upgrade: a/b/c"),
    head(b"Connection: upgrade", b"Upgrade: (x)"),
    head(b"Connection: upgrade", b"Upgrade: websocket\x00"),
]

TOO_LARGE = [
    head(*(b"X-%d: y" % number for number in range(100))),
    head(*(b"X: y" for _ in range(5000))),
    head(b"X: " + b"y" * 70_000),
    head(b"X" * 70_000 + b": y"),
    head(line=b"GET /" + b"a" * 70_000 + b" HTTP/1.1"),
    head(line=b"GET /?" + b"a" * 70_000 + b" HTTP/1.1"),
    head(b"Cookie: " + b"a=b; " * 14_000),
    b"A" * 70_000,
]

OLD_VERSIONS = [
    head(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0") + SMUGGLED_CHUNK,
    head(b"Content-Length: 5", b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0") + SMUGGLED_CHUNK,
    b"GET /\r\n",
    b"GET /\r\n\r\n",
    b"GET / HTTP/0.9\r\n\r\n",
]

NOT_HTTP = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x07" * 40,
    b"SSH-2.0-OpenSSH_9.9\r\n",
    b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
    b"*1\r\n$4\r\nPING\r\n",
    b"EHLO evil\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + head(),
    b"\r\n\r\n\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a",
]

REFUSED = [
    *refused("both lengths", BOTH_LENGTHS),
    *refused("coding", CODINGS_400),
    *refused("coding", CODINGS, 501),
    *refused("length", LENGTHS),
    *refused("name", NAMES),
    *refused("value", VALUES),
    *refused("line end", LINE_ENDS),
    *refused("request line", LINES),
    *refused("target", TARGETS),
    *refused("host", HOSTS),
    *refused("chunks", CHUNKS),
    *refused("options", OPTIONS),
    *refused("upgrade", UPGRADES),
    *refused("too large", TOO_LARGE, 431),
    *refused("version", OLD_VERSIONS),
    *refused("not HTTP", NOT_HTTP),
    *refused("expect", [head(b"Expect: 200-ok"), head(b"Expect: 100-continue, x"), head(b"Expect:")], 417),
]

PLAIN = head()
FORWARDED = [
    Case("plain", PLAIN, (PLAIN,)),
    Case("empty lines first", b"\r\n\r\n" + PLAIN, (PLAIN,)),
    Case("two of them", PLAIN + PLAIN, (PLAIN, PLAIN)),
    Case("a value beyond ASCII", head(b"X: \xc3\xb6"), (head(b"X: \xc3\xb6"),)),
    Case("white space around a value", head(b"X: \t a \t "), (head(b"X: \t a \t "),)),
    Case("an empty value", head(b"X:"), (head(b"X:"),)),
    Case(
        "a field that is only like one",
        head(b"Transfer_Encoding: chunked"),
        (head(b"Transfer_Encoding: chunked"),),
    ),
    Case(
        "a body that is a request",
        post(b"Content-Length: 38", body=TAIL) + PLAIN,
        (post(b"Content-Length: 38", body=TAIL), PLAIN),
    ),
    Case(
        "zeros before a length",
        post(b"Content-Length: 005", body=b"hello"),
        (post(b"Content-Length: 005", body=b"hello"),),
    ),
    Case(
        "a GET with a body", head(b"Content-Length: 5") + b"hello", (head(b"Content-Length: 5") + b"hello",)
    ),
    Case("chunks", chunked(b"5\r\nhello\r\n0\r\n\r\n"), (chunked(b"hello"),)),
    Case(
        "chunked in capitals",
        post(b"TRANSFER-ENCODING:CHUNKED", body=b"5\r\nhello\r\n0\r\n\r\n"),
        (chunked(b"hello"),),
    ),
    Case(
        "zeros before a chunk size",
        chunked(b"0005\r\nhello\r\n000\r\n\r\n") + PLAIN,
        (chunked(b"hello"), PLAIN),
    ),
    Case("chunk extensions", chunked(b'5;a;b=c ; d="\\"e;"\r\nhello\r\n0;f\r\n\r\n'), (chunked(b"hello"),)),
    Case(
        "a chunk that is a request", chunked(b"%x\r\n%b\r\n0\r\n\r\n" % (len(TAIL), TAIL)), (chunked(TAIL),)
    ),
    Case(
        "a trailer that frames",
        chunked(b"0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: evil\r\n\r\n") + PLAIN,
        (chunked(b""), PLAIN),
    ),
    Case(
        "what the mesh says itself",
        head(b"X-Mesh-Source: a/b;c;d", b"x-mesh-service: e", b"X-Mesh-Tunnel: framed"),
        (PLAIN,),
    ),
    Case(
        "who forwarded",
        head(b"X-Forwarded-For: 6.6.6.6", b"X-Forwarded-Host: evil", b"x-forwarded-client-cert: x"),
        (PLAIN,),
    ),
    Case("for Envoy", head(b"X-Envoy-Internal: true", b"x-envoy-original-path: /admin"), (PLAIN,)),
    Case(
        "hop by hop",
        head(b"Connection: close, X-A", b"X-A: b", b"Keep-Alive: 5", b"TE: trailers", b"Proxy-Connection: x"),
        (PLAIN,),
    ),
    Case(
        "options that name what proxies add",
        head(b"Connection: x-forwarded-for, traceparent, x-request-id"),
        (PLAIN,),
    ),
    Case(
        "h2c",
        head(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"),
        (PLAIN,),
    ),
    Case(
        "h2c with a body",
        post(b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 5", body=b"hello"),
        (post(b"Content-Length: 5", body=b"hello"),),
    ),
    Case("an upgrade that Connection does not name", head(b"Upgrade: websocket"), (PLAIN,)),
    Case("a bad traceparent", head(b"traceparent: 00-x", b"tracestate: a=b"), (PLAIN,)),
    Case(
        "dot segments", head(line=b"GET /a/../../b/./c/%2e%2E/d HTTP/1.1"), (head(line=b"GET /b/d HTTP/1.1"),)
    ),
    Case(
        "an escaped slash", head(line=b"GET /a%2f..%2fb HTTP/1.1"), (head(line=b"GET /a%2F..%2Fb HTTP/1.1"),)
    ),
    Case("a backslash", head(line=b"GET /a\\..\\b HTTP/1.1"), (head(line=b"GET /b HTTP/1.1"),)),
    Case(
        "an escaped escape",
        head(line=b"GET /%252e%252e/ HTTP/1.1"),
        (head(line=b"GET /%252e%252e/ HTTP/1.1"),),
    ),
    Case("two slashes", head(line=b"GET //evil/x HTTP/1.1"), (head(line=b"GET //evil/x HTTP/1.1"),)),
    Case("any server", head(line=b"OPTIONS * HTTP/1.1"), (head(line=b"OPTIONS * HTTP/1.1"),)),
    Case("absolute", head(line=b"GET http://shop/x?y HTTP/1.1"), (head(line=b"GET /x?y HTTP/1.1"),)),
    Case(
        "absolute, another host",
        head(line=b"GET HTTP://shop/x HTTP/1.1", host=b"Host: evil"),
        (head(line=b"GET /x HTTP/1.1"),),
    ),
    Case(
        "absolute, the host in the query",
        head(line=b"GET http://shop?@evil/ HTTP/1.1"),
        (head(line=b"GET /?@evil/ HTTP/1.1"),),
    ),
    Case("1.0", head(b"Connection: keep-alive", line=b"GET / HTTP/1.0") + TAIL, (PLAIN,)),
    Case(
        "1.0 with an upgrade",
        head(b"Connection: upgrade", b"Upgrade: websocket", line=b"GET / HTTP/1.0"),
        (PLAIN,),
    ),
    Case("after close", head(b"Connection: close") + TAIL, (PLAIN,)),
    Case("good, bad, good", PLAIN + head(b"X : y") + TAIL, (PLAIN, 400)),
    Case("good, no request, good", PLAIN + b"\x00\r\n\r\n" + TAIL, (PLAIN, 400)),
    Case(
        "a longer body than said",
        post(b"Content-Length: 5", body=b"helloX\r\n\r\n") + TAIL,
        (post(b"Content-Length: 5", body=b"hello"), 400),
    ),
    Case("more after the last chunk", chunked(b"0\r\n\r\nX\r\n\r\n") + TAIL, (chunked(b""), 400)),
    Case("a request without length and a body", post(body=b"hello\r\n\r\n") + TAIL, (post(), 400)),
]

REQUESTS = [*REFUSED, *FORWARDED]
