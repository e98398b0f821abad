"""Responses that attack a proxy or its clients: none is passed on, none leaves its connection in use.

Written from RFC 9110 and 9112 and from public advisories about response splitting and desynchronisation.
"""

from __future__ import annotations

from hostile_requests import CHUNKED_BODIES, CODING_FIELDS, CODING_FIELDS_400, LENGTH_FIELDS, NAMES, VALUES

OK = b"HTTP/1.1 200 OK\r\n"
FORGED = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"


def response(*fields: bytes, body: bytes = b"", line: bytes = OK) -> bytes:
    """A response whose fields describe its body somehow."""
    return line + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body


def fields_of(request: bytes) -> bytes:
    """What follows the request line."""
    return request.partition(b"\r\n")[2]


STATUS_LINES = [
    line + b"\r\nContent-Length: 2\r\n\r\nok"
    for line in (
        b"",
        b"nonsense",
        b"HTTP/1.1",
        b"HTTP/1.1 ",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 200OK",
        b"HTTP/1.1 2x0 OK",
        b"HTTP/1.1 abc OK",
        b"HTTP/1.1 -20 OK",
        b"HTTP/1.1 +20 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1 000 OK",
        b"HTTP/1.1 \xb200 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1\t200 OK",
        b"HTTP/1.1 200\tOK",
        b"HTTP/1.1 200 O\x00K",
        b"HTTP/1.1 200 O\rK",
        b"HTTP/1.1 200 O\nK",
        b"HTTP/1.1 200 O\x01K",
        b"HTTP/0.9 200 OK",
        b"HTTP/1.2 200 OK",
        b"HTTP/1.10 200 OK",
        b"HTTP/01.1 200 OK",
        b"HTTP/2 200 OK",
        b"HTTP/2.0 200 OK",
        b"http/1.1 200 OK",
        b"HTTPS/1.1 200 OK",
        b"ICY 200 OK",
        b"RTSP/1.0 200 OK",
        b" HTTP/1.1 200 OK",
        b"\nHTTP/1.1 200 OK",
        b"\r\nHTTP/1.1 200 OK",
        b"\x00HTTP/1.1 200 OK",
        b"HTTP/1.1 200 OK\r",
        b"GET / HTTP/1.1",
    )
]

FRAMING = [
    response(b"Content-Length: 2", b"Content-Length: 2", body=b"ok"),
    response(b"Content-Length: 2", b"Content-Length: 3", body=b"ok"),
    response(b"Content-Length: 2", b"Transfer-Encoding: chunked", body=b"2\r\nok\r\n0\r\n\r\n"),
    response(b"Transfer-Encoding: chunked", b"Content-Length: 2", body=b"2\r\nok\r\n0\r\n\r\n"),
    response(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n", line=b"HTTP/1.0 200 OK\r\n"),
    response(b"Content-Length: 2", b"Connection: content-length", body=b"ok"),
    response(b"Content-Length: 2", body=b"ok" + FORGED),
    response(b"Content-Length: 0", body=FORGED),
    response(b"Content-Length: 0", body=b"\r\n" + FORGED),
    response(line=b"HTTP/1.1 204 No Content\r\n", body=FORGED),
    response(line=b"HTTP/1.1 304 Not Modified\r\n", body=FORGED),
    response(b"Content-Length: 6", line=b"HTTP/1.1 304 Not Modified\r\n", body=b"forged"),
    response(b"Content-Length: 100", body=b"short"),
    *(response(field, body=b"2\r\nok\r\n0\r\n\r\n") for field in (*CODING_FIELDS_400, *CODING_FIELDS)),
    *(response(field, body=b"hello") for field in LENGTH_FIELDS),
]

CHUNKS = [
    *(response(b"Transfer-Encoding: chunked", body=body + FORGED) for body in CHUNKED_BODIES),
    response(b"Transfer-Encoding: chunked", body=b"5\r\nhel"),
    response(b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n"),
    response(b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n"),
    response(b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\nX: y\r\n"),
]

FIELDS = [
    *(
        OK + fields_of(request)
        for request in (*NAMES, *VALUES)
        if b"shop" not in request.split(b"\r\n")[1][5:6]
    ),
    OK.replace(b"\r\n", b"\n") + b"Content-Length: 2\r\n\r\nok",
    OK + b"Content-Length: 2\n\r\nok",
    OK + b"Content-Length: 2\r\n\nok",
    OK + b"Content-Length: 2\n\nok",
    OK + b"Content-Length: 2\r\r\n\r\nok",
    OK + b" Content-Length: 2\r\n\r\nok",
    OK + b"X: a\r\n\x00\r\n\r\nok",
    response(*(b"X-%d: y" % number for number in range(102))),
    response(b"X: " + b"y" * 70_000),
    OK + b"X: " + b"y" * 70_000,
    b"H" * 70_000,
]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
INTERIM = [
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n" + FORGED,
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + FORGED,
    b"HTTP/1.1 100 Continue\r\nContent-Length: 6\r\n\r\nforged" + FORGED,
    b"HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + FORGED,
    b"HTTP/1.1 103 Early Hints\r\nX : y\r\n\r\n" + FORGED,
    CONTINUE * 40 + FORGED,
    CONTINUE * 3000,
    CONTINUE + b"nonsense\r\n\r\n",
    CONTINUE,
]

RESPONSES = [*STATUS_LINES, *FRAMING, *CHUNKS, *FIELDS, *INTERIM]

ALLOWED = {
    b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok": b"ok",
    b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok": b"ok",
    b"HTTP/1.1 200 Gr\xc3\xb6n\r\nContent-Length: 2\r\n\r\nok": b"ok",
    b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok": b"ok",
    response(b"Content-Length: 2", b"X: \xc3\xb6", b"Y:", body=b"ok"): b"ok",
    response(b"Content-Length: 2", b"Connection: x-secret", b"X-Secret: 1", body=b"ok"): b"ok",
    response(b"Transfer-Encoding: CHUNKED", body=b'2;a="b"\r\nok\r\n0\r\nX: y\r\n\r\n'): b"ok",
    CONTINUE * 3 + FORGED: b"forged",
    b"HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\n\r\n" + FORGED: b"forged",
}
"""Unusual, but right: the body that the client gets."""
