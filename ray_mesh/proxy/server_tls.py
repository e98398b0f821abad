"""TLS that a gateway ends: contexts from files on this node, read again when a file changes.

A changed file holds for connections from then on; those that are there stay. Files that cannot be used
change nothing: what was read before goes on, and without any the server's handshakes are refused.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from typing import Any

from ray_mesh.proxy.tls import ALPN, HTTP2_ALPN, Identity, load_svid, server_context
from ray_mesh.snapshot import ServerTls

LOOK_S = 1.0
"""How often files are looked at, when connections come."""
_VERSIONS = {"TLSV1_2": ssl.TLSVersion.TLSv1_2, "TLSV1_3": ssl.TLSVersion.TLSv1_3}
OnFailure = Callable[[str], None]


class ServerContexts:
    """Contexts by configuration. ``on_failure`` is told why files cannot be used."""

    def __init__(self, on_failure: OnFailure) -> None:
        self._on_failure = on_failure
        self._loaded: dict[tuple[ServerTls, bool], _Loaded] = {}

    def context(self, tls: ServerTls, is_http: bool) -> ssl.SSLContext | None:
        """The context for a new connection to a SIMPLE or MUTUAL server; None when there is none."""
        loaded = self._loaded.setdefault((tls, is_http), _Loaded(is_http))
        now = time.monotonic()
        if now >= loaded.look_at:
            loaded.look_at = now + LOOK_S
            loaded.refresh(tls, self._on_failure)
        return loaded.context

    def keep(self, wanted: frozenset[ServerTls]) -> None:
        """Forget the contexts that no server has any more."""
        for key in [key for key in self._loaded if key[0] not in wanted]:
            del self._loaded[key]


class _Loaded:
    """A context, and what its files looked like when it was made."""

    def __init__(self, is_http: bool) -> None:
        self._is_http = is_http
        self.context: ssl.SSLContext | None = None
        self.look_at = 0.0
        self._seen: tuple[tuple[int, int, int], ...] | None = None

    def refresh(self, tls: ServerTls, on_failure: OnFailure) -> None:
        """Read the files again if one has changed."""
        paths = [path for path in (tls.certificate, tls.key, tls.authorities) if path]
        try:
            found = [os.stat(path) for path in paths]
            seen = tuple((one.st_mtime_ns, one.st_size, one.st_ino) for one in found)
            if seen == self._seen:
                return
            self._seen = seen
            self.context = file_context(tls, self._is_http)
        except (OSError, ssl.SSLError) as error:
            names = ", ".join(paths)
            kept = "the one before stays in use" if self.context else "handshakes are refused"
            on_failure(f"a gateway's certificate cannot be used ({names}): {error}; {kept}")


def file_context(tls: ServerTls, is_http: bool) -> ssl.SSLContext:
    """A server's context from its files. Raises OSError, ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certificate, tls.key, password=_no_password)
    if tls.mode == "MUTUAL":
        context.load_verify_locations(tls.authorities)
        context.verify_mode = ssl.CERT_REQUIRED
    return narrowed(context, tls, is_http)


def mesh_context(tls: ServerTls, identity: Identity, is_http: bool) -> ssl.SSLContext:
    """A server's context with the workload's own identity, for callers with one of the mesh."""
    context = server_context(identity.trust)
    load_svid(context, identity.svid)
    return narrowed(context, tls, is_http)


def narrowed(context: ssl.SSLContext, tls: ServerTls, is_http: bool) -> ssl.SSLContext:
    """Versions, ciphers and ALPN of a context as configured. No resumption: it would skip checks.

    HTTP/2 is for servers whose HTTP ends here: what is behind others may not speak it.
    """
    least, greatest = tls.versions
    if least:
        context.minimum_version = _VERSIONS[least]
    elif tls.mode != "ISTIO_MUTUAL":
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    if greatest:
        context.maximum_version = _VERSIONS[greatest]
    if tls.ciphers:
        context.set_ciphers(":".join(tls.ciphers))
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    context.set_alpn_protocols([HTTP2_ALPN, ALPN] if is_http else [ALPN])
    return context


def has_name(connection: ssl.SSLObject, names: tuple[str, ...]) -> bool:
    """Whether the caller's certificate has one of the names (DNS or URI); without names any will do."""
    if not names:
        return True
    certificate: dict[str, Any] = dict(connection.getpeercert() or {})
    found = {value for kind, value in certificate.get("subjectAltName", ()) if kind in ("DNS", "URI")}
    return not found.isdisjoint(names)


def _no_password() -> str:
    raise OSError("the key is encrypted; a file without passphrase is needed")
