"""Request targets: parsed once, normalized before routing and authorization, forwarded as matched.

The normalization is Istio's ``BASE`` (RFC 3986 section 6 plus ``\\`` to ``/``): escapes of unreserved
characters are decoded, other escapes are written in upper case and stay (``%2F`` is not a slash), dot
segments are removed. Slashes are not merged.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_UNCLEAN = re.compile(rb"[%\\#]|/\.|[^\x21-\x7e]")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_ABSOLUTE = re.compile(rb"http://([^/?#@]+)([/?].*)?", re.IGNORECASE)


def split_absolute(target: bytes) -> tuple[bytes, bytes] | None:
    """Authority and origin-form of an absolute-form target; None when it is of another form."""
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        return None
    rest = found[2] or b"/"
    return found[1], rest if rest[:1] == b"/" else b"/" + rest


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """Normalized path, and the query with its ``?`` (or empty).

    Raises:
        ValueError: the target is neither origin-form nor ``*``, or cannot be understood one way only.
    """
    path, mark, query = target.partition(b"?")
    if path[:1] != b"/" and target != b"*":
        raise ValueError("the target is neither a path nor an http:// URL")
    if b"#" in target:
        raise ValueError("the target contains a fragment")
    if _UNCLEAN.search(path) is not None:
        path = normalize(path)
    return path, mark + query


def normalize(path: bytes) -> bytes:
    """An absolute path in normal form; normalizing it again changes nothing.

    Raises:
        ValueError: a bad escape, an encoded NUL, or a byte that may not appear in a path.
    """
    if any(byte < 0x21 or byte > 0x7E for byte in path):
        raise ValueError("the path contains a control character")
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


def query_parameters(query: bytes, decode: Callable[[bytes], bytes]) -> dict[bytes, bytes]:
    """First value of each parameter of ``?a=b&c``; names and values go through ``decode``."""
    found: dict[bytes, bytes] = {}
    for pair in query[1:].split(b"&"):
        name, _, value = pair.partition(b"=")
        if name:
            found.setdefault(decode(name), decode(value))
    return found
