"""HTTP/1.1 heads: what they say about framing, and which lines must not travel on.

``httptools`` (llhttp, strict) has accepted the syntax of a head before it comes here: CRLF line ends,
no folding, no space before a colon, no control characters. What llhttp leaves to its user is checked
here: one Host, one Content-Length, no Content-Length beside Transfer-Encoding, ``chunked`` and nothing
else, number and size of fields. Anything doubtful is refused, never repaired.

What differs in every request of a connection is set apart first (``traceparent`` and
``x-request-id``, :func:`set_apart`): the rest of a head is then often the same bytes as last time, and
need not be understood again.

A head is a request or status line and a *block*: the field lines, from the CRLF that ends the first
line to the CRLF of the last field. Finding the few interesting fields with one expression and cutting
their lines out costs a third of looking at every field, and keeps the rest byte by byte.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Set

from ray_mesh.errors import PeerError
from ray_mesh.proxy.trace import from_b3, is_valid

MAX_HEAD_BYTES = 60 * 1024
MAX_FIELDS = 100
CHUNKED = -1
"""A length that is not known before the last chunk."""

REQUEST_FIELDS = (
    rb"b3|c(?:onnection|ontent-length)|expect|host|keep-alive|proxy-[a-z-]*|"
    rb"t(?:e|raceparent|racestate|railer|ransfer-encoding)|upgrade|"
    rb"x-(?:b3-[a-z-]*|forwarded-[a-z-]*|envoy-[a-z-]*|request-id|mesh-[^:]*)"
)
_REQUEST_FIELD = re.compile(rb"\n(" + REQUEST_FIELDS + rb"):[ \t]*([^\r]*)")
_RESPONSE_FIELD = re.compile(
    rb"\n(c(?:onnection|ontent-length)|keep-alive|proxy-(?:connection|authenticate)|"
    rb"t(?:e|railer|ransfer-encoding)|upgrade|x-mesh-[^:]*):[ \t]*([^\r]*)"
)
_REQUEST_ID = re.compile(rb"\nx-request-id: ([0-9A-Za-z._-]{1,128})\r\n")
_PROTOCOL = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:/[!#$%&'*+.^_`|~0-9A-Za-z-]+)?")
_HTTP_PROTOCOL = re.compile(rb"h2|http(?:/|$)", re.IGNORECASE)
_LENGTH = re.compile(rb"[0-9]{1,15}")
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authorization proxy-authenticate te trailer "
    b"transfer-encoding upgrade".split()
)
_ALWAYS_CUT = _HOP_BY_HOP | {b"traceparent", b"x-request-id"}
_KNOWN_OPTIONS = frozenset(b"close keep-alive te upgrade".split()) | _HOP_BY_HOP
_TRACESTATE = frozenset((b"tracestate",))
_NOT_INTERIM = frozenset((b"content-length", b"x-mesh-tunnel"))
_UNDROPPABLE = frozenset(b"host content-length content-type authorization cookie expect".split())


class BadHead(PeerError):
    """A head that must not be forwarded. ``code`` is the status for the client who sent it."""

    reason = "bad_request"

    def __init__(self, message: str, code: int = 400) -> None:
        super().__init__(message)
        self.code = code


class RequestHead:
    """What one block of request fields says. It is reused while a client repeats the block.

    ``length`` is the body's: a number of bytes or :data:`CHUNKED`. ``fields`` is the block without
    the lines that must not travel on; it begins and ends with CRLF. Empty bytes mean "not there".
    """

    __slots__ = (
        "admitted_by",  # the token hash that accepted the credential, set by the outbound entry
        "block",
        "call_allowed_s",  # by grpc-timeout, once somebody asked
        "closes",
        "credential",
        "expects",
        "fields",
        "forwarded_for",
        "has_grpc_content",  # set by the first who asks, see grpc.is_grpc
        "has_proto",
        "has_trace",  # fields that say more of a trace, or in another way, than traceparent
        "host",
        "is_brief",  # the next proxy asks for replies without explanation
        "is_framed",  # the caller's proxy asks for a framed tunnel
        "is_from_outside",  # what it says of its way and of the mesh is not believed
        "length",
        "lower",  # the block in lower case
        "request_id",
        "service",
        "source",
        "traceparent",
        "upgrade",
    )

    def __init__(self, block: bytes, lower: bytes) -> None:
        self.block = block
        self.lower = lower
        self.fields = block
        self.host = b""
        self.length = 0
        self.closes = False
        self.expects = False
        self.is_framed = False
        self.is_from_outside = False
        self.upgrade = b""
        self.credential = b""
        self.admitted_by: bytes | None = None
        self.request_id = b""
        self.traceparent = b""
        self.forwarded_for = b""
        self.has_grpc_content: bool | None = None
        self.call_allowed_s: float | None = None
        self.has_proto = False
        self.has_trace = False
        self.source = b""
        self.service = b""
        self.is_brief = False

    def named(self, name: bytes) -> bytes | None:
        """The values of a field (name in lower case) joined with ``, ``; None when absent."""
        values = self.values(name)
        if not values:
            return None
        return values[0] if len(values) == 1 else b", ".join(values)

    def values(self, name: bytes) -> list[bytes]:
        """The values of all lines of a field (name in lower case)."""
        return values_of(name, self.block, self.lower)


def values_of(name: bytes, block: bytes, lower: bytes) -> list[bytes]:
    """The values of all lines of a field (name in lower case); ``lower`` is the block in lower case."""
    needle = b"\n" + name + b":"
    start = lower.find(needle)
    values: list[bytes] = []
    while start >= 0:
        start += len(needle)
        end = lower.index(b"\r", start)
        values.append(block[start:end].strip(b" \t"))
        start = lower.find(needle, end)
    return values


def set_apart(raw: bytes) -> tuple[bytes, bytes, bytes]:
    """A complete head without its ``traceparent`` and ``x-request-id`` lines, and their values.

    Lines that are not written exactly as proxies write them stay in the head. So the head that was
    given is the head that is returned with at most two well-formed field lines more.
    """
    traceparent = request_id = b""
    start = raw.find(b"\ntraceparent: ")
    if start > 0:
        value = raw[start + 14 : start + 69]
        if raw[start + 69 : start + 71] == b"\r\n" and is_valid(value):
            traceparent = value
            raw = raw[: start + 1] + raw[start + 71 :]
    start = raw.find(b"\nx-request-id: ")
    if start > 0:
        found = _REQUEST_ID.match(raw, start)
        if found is not None:
            request_id = found[1]
            raw = raw[: start + 1] + raw[found.end() :]
    return raw, traceparent, request_id


def read_request(block: bytes, dropped: frozenset[bytes]) -> RequestHead:
    """Understand a block of request fields.

    Fields of one hop and ``x-mesh-`` fields never travel on; ``traceparent`` and ``x-request-id`` are
    written anew. ``dropped`` names further fields that do not; ``x-forwarded-`` in it stands for every
    field that begins so (and for ``x-envoy-``).

    Raises:
        BadHead: the block is ambiguous or too large.
    """
    lower = block.lower()
    _check_count(lower)
    head = RequestHead(block, lower)
    options = upgrade = b""
    hosts = lengths = codings = 0
    cuts: list[tuple[int, int]] = []
    for found in _REQUEST_FIELD.finditer(lower):
        name, value = found.groups()
        start, end = found.span(2)
        if name in _ALWAYS_CUT or name in dropped:
            cuts.append((found.start() + 1, end + 2))
        if name == b"host":
            hosts += 1
            head.host = value.rstrip()
        elif name == b"traceparent":
            head.traceparent = value.rstrip()
        elif name == b"x-request-id":
            head.request_id = block[start:end]
        elif name == b"content-length":
            lengths += 1
            head.length = _length(value)
        elif name == b"proxy-authorization":
            if head.credential:
                raise BadHead("two Proxy-Authorization fields")
            head.credential = block[start:end]
        elif name == b"x-forwarded-for":
            more = block[start:end]
            head.forwarded_for = head.forwarded_for + b", " + more if head.forwarded_for else more
        elif name == b"x-forwarded-proto":
            head.has_proto = True
        elif name in (b"b3", b"tracestate") or name[:5] == b"x-b3-":
            head.has_trace = True
        elif name == b"connection":
            options = options + b"," + value
        elif name == b"transfer-encoding":
            codings += 1
            _check_coding(value)
        elif name == b"expect":
            head.expects = _expects(value)
        elif name == b"upgrade":
            upgrade = upgrade + b"," + block[start:end]
        elif name[:7] == b"x-mesh-":
            cuts.append((found.start() + 1, end + 2))
            _take_mesh_field(head, name, value, block[start:end])
        if (
            name[:2] == b"x-"
            and b"x-forwarded-" in dropped
            and name.startswith((b"x-forwarded-", b"x-envoy-"))
        ):
            cuts.append((found.start() + 1, end + 2))
    if hosts != 1:
        raise BadHead("no Host field" if hosts == 0 else "two Host fields")
    if codings:
        head.length = CHUNKED
    _check_framing(lengths, codings)
    if cuts:
        head.fields = _cut(block, cuts)
    if options:
        _take_options(head, options, upgrade)
    return head


def _take_mesh_field(head: RequestHead, name: bytes, value: bytes, written: bytes) -> None:
    """What another proxy says of the request; ``written`` is the value as it came."""
    if name == b"x-mesh-source":
        head.source = written
    elif name == b"x-mesh-explain":
        head.is_brief = value == b"no"
    elif name == b"x-mesh-service":
        head.service = value
    elif name == b"x-mesh-tunnel":
        head.is_framed = value == b"framed"


def _take_options(head: RequestHead, options: bytes, upgrade: bytes) -> None:
    """What ``Connection`` says: what does not travel on decides nothing either."""
    names = _options(options)
    head.closes = b"close" in names
    if own := names - _KNOWN_OPTIONS:
        head.fields = without(head.fields, own)
        head.block = without(head.block, own)
        head.lower = head.block.lower()
    if upgrade and b"upgrade" in names:
        _take_upgrade(head, upgrade)


def _take_upgrade(head: RequestHead, value: bytes) -> None:
    """Ask the next hop for the same protocols, but not for another version of HTTP: its requests would
    pass unseen."""
    wanted = protocols(value)
    if not all(_PROTOCOL.fullmatch(each) for each in wanted):
        raise BadHead("Upgrade is not a list of protocols")
    head.upgrade = b", ".join(each for each in wanted if not _HTTP_PROTOCOL.match(each))
    if not head.upgrade:
        return
    if head.length:
        raise BadHead("an upgrade with a body")
    head.fields += b"connection: upgrade\r\nupgrade: %b\r\n" % head.upgrade


def protocols(value: bytes) -> list[bytes]:
    """The protocols that a value of Upgrade names."""
    return [each for each in (part.strip(b" \t") for part in value.split(b",")) if each]


def parent_of(head: RequestHead) -> bytes:
    """The parent of a request without valid ``traceparent``, whose ``tracestate`` then means nothing."""
    head.fields = without(head.fields, _TRACESTATE)
    return from_b3(head.named)


class ResponseHead:
    """What one block of response fields says; see :class:`RequestHead`.

    ``length`` is None when the body ends with the connection. ``upgrade`` names the protocol that is
    switched to, with 101.
    """

    __slots__ = ("block", "closes", "fields", "length", "upgrade")

    def __init__(self, block: bytes) -> None:
        self.block = block
        self.fields = block
        self.length: int | None = None
        self.closes = False
        self.upgrade = b""

    def with_fields(self, fields: bytes) -> ResponseHead:
        """The same head with other lines to forward."""
        head = copy.copy(self)
        head.fields = fields
        return head


def read_response(block: bytes, trusts_mesh_fields: bool) -> ResponseHead:
    """Understand a block of response fields; ``x-mesh-`` fields pass only from another proxy.

    Raises:
        BadHead: the block is ambiguous or too large.
    """
    lower = block.lower()
    _check_count(lower)
    head = ResponseHead(block)
    options = upgrade = b""
    lengths = codings = 0
    cuts: list[tuple[int, int]] = []
    for found in _RESPONSE_FIELD.finditer(lower):
        name, value = found.groups()
        if name == b"content-length":
            lengths += 1
            head.length = _length(value)
            continue
        if name == b"transfer-encoding":
            codings += 1
            _check_coding(value)
        elif name == b"connection":
            options = options + b"," + value
        elif name == b"upgrade":
            upgrade = upgrade + b"," + block[found.start(2) : found.end(2)]
        elif trusts_mesh_fields and name.startswith(b"x-mesh-"):
            continue
        cuts.append((found.start() + 1, found.end() + 2))
    if codings:
        head.length = CHUNKED
    _check_framing(lengths, codings)
    if cuts:
        head.fields = _cut(block, cuts)
    if options:
        names = _options(options)
        head.closes = b"close" in names
        head.fields = without(head.fields, names - _KNOWN_OPTIONS)
        if b"upgrade" in names:
            head.upgrade = b", ".join(protocols(upgrade))
    return head


def interim_fields(head: ResponseHead) -> bytes:
    """The fields of an interim response that may travel on. Raises BadHead when it has a body."""
    if head.length:
        raise BadHead("an interim response with a body")
    return without(head.fields, _NOT_INTERIM)


def _check_count(block: bytes) -> None:
    if block.count(b"\n") > MAX_FIELDS + 1:
        raise BadHead(f"more than {MAX_FIELDS} header fields", 431)


def _check_framing(lengths: int, codings: int) -> None:
    if codings and lengths:
        raise BadHead("Content-Length beside Transfer-Encoding")
    if lengths > 1 or codings > 1:
        raise BadHead("two Content-Length or two Transfer-Encoding fields")


def _length(value: bytes) -> int:
    value = value.rstrip()
    if _LENGTH.fullmatch(value) is None:
        raise BadHead("Content-Length is not a number")
    return int(value)


def _check_coding(value: bytes) -> None:
    if value.rstrip() != b"chunked":
        raise BadHead("a Transfer-Encoding other than chunked", 501)


def _expects(value: bytes) -> bool:
    if value.rstrip() != b"100-continue":
        raise BadHead("an Expect other than 100-continue", 417)
    return True


def _cut(block: bytes, cuts: list[tuple[int, int]]) -> bytes:
    kept = []
    position = 0
    for start, end in cuts:
        if start >= position:  # a line may have been named twice
            kept.append(block[position:start])
            position = end
    kept.append(block[position:])
    return b"".join(kept)


def _options(options: bytes) -> set[bytes]:
    """The options of Connection (lower case)."""
    names = {option.strip() for option in options.split(b",")} - {b""}
    if names & _UNDROPPABLE:
        raise BadHead("Connection names a field that is not hop-by-hop")
    return names


def without(fields: bytes, names: Set[bytes]) -> bytes:
    """A block without the fields of those names (lower case)."""
    if not names:
        return fields
    return b"\r\n".join(
        line for line in fields.split(b"\r\n") if line.partition(b":")[0].lower() not in names
    )
