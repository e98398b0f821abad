"""Request targets: parsed once, normalized before routing and authorization, forwarded as matched.

How much is normalized is MeshConfig's ``pathNormalization.normalization``, as in Istio:

* ``NONE``: paths stay as they came;
* ``BASE``, the default (RFC 3986 section 6, and ``\\`` is ``/``): escapes of unreserved characters are
  decoded, others are written in upper case and stay (``%2F`` is not a slash), dot segments are removed;
* ``MERGE_SLASHES``: then ``//`` becomes ``/``;
* ``DECODE_AND_MERGE_SLASHES``: before all that ``%2F`` and ``%5C`` are decoded.

Control characters, fragments and (but for ``NONE``) malformed escapes are refused whatever it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_UNCLEAN = re.compile(rb"[%\\]|/\.")
_CONTROL = re.compile(rb"[^\x21-\x7e]")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_SLASH = re.compile(rb"%(?:2f|5c)", re.IGNORECASE)
_SLASHES = re.compile(rb"/{2,}")
_LINE = (
    rb"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (?:http://([A-Za-z0-9.:-]+))?"
    rb"((?:/(?![%b])[!$&-.0-9:;<=>@A-\[\]^_`a-z{|}~]*)+)(\?[!$-~]*)? HTTP/1\.1"
)
_ABSOLUTE = re.compile(rb"http://([^/?#@]+)([/?].*)?", re.IGNORECASE)


def split_absolute(target: bytes) -> tuple[bytes, bytes] | None:
    """Authority and origin-form of an absolute-form target; None when it is of another form."""
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        return None
    rest = found[2] or b"/"
    return found[1], rest if rest[:1] == b"/" else b"/" + rest


@dataclass(frozen=True, slots=True)
class Paths:
    """One way to normalize. ``line`` matches request lines, in origin or absolute form, whose path is in
    normal form already: method, authority, path, query."""

    line: re.Pattern[bytes]
    is_base: bool
    merges: bool = False
    decodes: bool = False

    def split(self, target: bytes) -> tuple[bytes, bytes]:
        """Normalized path, and the query with its ``?`` (or empty).

        Raises:
            ValueError: the target is neither origin-form nor ``*``, or cannot be understood one way only.
        """
        path, mark, query = target.partition(b"?")
        if path[:1] != b"/" and target != b"*":
            raise ValueError("the target is neither a path nor an http:// URL")
        if b"#" in target:
            raise ValueError("the target contains a fragment")
        if _CONTROL.search(target) is not None:
            raise ValueError("the target contains a control character or a byte beyond ASCII")
        if self.decodes:
            path = _SLASH.sub(b"/", path)
        if self.is_base and _UNCLEAN.search(path) is not None:
            path = normalize(path)
        if self.merges:
            path = _SLASHES.sub(b"/", path)
        return path, mark + query


_EVERY = re.compile(_LINE % rb"\.")
_MERGED = re.compile(_LINE % rb"\./")
BASE = Paths(_EVERY, is_base=True)
PATHS = {
    "NONE": Paths(_EVERY, is_base=False),
    "BASE": BASE,
    "MERGE_SLASHES": Paths(_MERGED, is_base=True, merges=True),
    "DECODE_AND_MERGE_SLASHES": Paths(_MERGED, is_base=True, merges=True, decodes=True),
}
"""By the words of the compiled configuration."""


def normalize(path: bytes) -> bytes:
    """An absolute path in the normal form of ``BASE``; normalizing it again changes nothing.

    Raises:
        ValueError: a bad escape or an encoded NUL.
    """
    return _remove_dot_segments(_ESCAPE.sub(_decode, path.replace(b"\\", b"/")))


def _decode(escape: re.Match[bytes]) -> bytes:
    if escape[1] is None or escape[1] == b"00":
        # Decoded leniently, "%%32e" would become "%2e" here and "." at the next hop.
        raise ValueError("the path contains a bad percent escape")
    byte = int(escape[1], 16)
    return bytes((byte,)) if byte in _UNRESERVED else escape[0].upper()


def _remove_dot_segments(path: bytes) -> bytes:
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
    if segments[-1] in (b".", b".."):
        kept.append(b"")
    return b"/" + b"/".join(kept)


def query_parameters(query: bytes) -> dict[bytes, bytes]:
    """First value of each parameter of ``?a=b&c``, as they were sent."""
    found: dict[bytes, bytes] = {}
    for pair in query[1:].split(b"&"):
        name, _, value = pair.partition(b"=")
        if name:
            found.setdefault(name, value)
    return found
