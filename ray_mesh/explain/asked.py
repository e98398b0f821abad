"""A request as the proxy's decisions see one, without a connection."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ray_mesh.explain.question import Question
from ray_mesh.proxy.forwarded import client_behind
from ray_mesh.proxy.hashing import Edit
from ray_mesh.proxy.path import PATHS
from ray_mesh.snapshot import Mesh

_LOOPBACK = b"127.0.0.1"


@dataclass(slots=True)
class Asked:
    """One request; ``host`` is in lower case, ``query`` begins with ``?`` or is empty.

    It is both :class:`ray_mesh.proxy.match.Matchable` and :class:`ray_mesh.proxy.hashing.Asking`.
    """

    scheme: bytes
    method: bytes
    path: bytes
    query: bytes
    host: bytes
    client: bytes = b""
    fields: tuple[tuple[bytes, bytes], ...] = ()
    attempts: int = 0
    edit: Edit | None = field(default=None)

    def header(self, name: bytes) -> bytes | None:
        """The joined values of a header field; ``name`` in lower case."""
        values = self.values(name)
        return b",".join(values) if values else None

    def values(self, name: bytes) -> list[bytes]:
        """The values of each of its lines."""
        if name == b"host":
            return [self.host]
        return [value for each, value in self.fields if each == name]


def asked_of(question: Question, mesh: Mesh) -> Asked:
    """The request of a question, as the proxy that takes it sees it.

    Raises:
        ValueError: the proxy would refuse its path.
    """
    path, query = PATHS[mesh.path_normalization].split(question.target.encode("utf-8"))
    asked = Asked(
        scheme=question.scheme.encode(),
        method=question.method.encode(),
        path=path,
        query=query,
        host=question.authority.lower().encode("utf-8"),
        client=_LOOPBACK,
        fields=tuple((name.encode(), value.encode("utf-8")) for name, value in question.headers),
    )
    return (
        _from_outside(asked, question.client_ip.encode(), mesh.trusted_proxies)
        if question.caller.gateway
        else asked
    )


def _from_outside(asked: Asked, peer: bytes, trusted: int) -> Asked:
    """What a gateway believes of it: nothing that is said about the client, but by ``trusted`` proxies."""
    said = asked.header(b"x-forwarded-for") or b""
    is_https = bool(trusted) and asked.header(b"x-forwarded-proto") == b"https"
    scheme = b"https" if is_https else asked.scheme
    through = said + b", " + peer if said and trusted else peer
    kept = [(name, value) for name, value in asked.fields if not name.startswith(b"x-forwarded-")]
    return replace(
        asked,
        scheme=scheme,
        client=client_behind(said, peer, trusted) if trusted else peer,
        fields=(*kept, (b"x-forwarded-for", through), (b"x-forwarded-proto", scheme)),
    )
