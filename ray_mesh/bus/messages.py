"""Every payload that travels on NATS (documented in docs/wire.md).

A payload is a msgpack map ``{"v": [major, minor], "m": {...}}``. A newer major version is refused
with :class:`~ray_mesh.errors.PeerError`, never half-read. Identity is never read from a body where
the subject carries it: the broker's permissions make the subject true, the body is a claim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgpack

from ray_mesh import codec
from ray_mesh.errors import PeerError
from ray_mesh.telemetry.series import Series

VERSION = (1, 0)
SIGNATURE_HEADER = "Mesh-Signature"
"""Header with the base64 Ed25519 signature over the payload bytes."""
BEACON_HEADER = "Mesh-Beacon"
"""Header of a compiled value that vouches for the beacon behind it (:mod:`ray_mesh.security.vouching`)."""
CHUNKS_HEADER = "Mesh-Chunks"
"""Header of a compiled value that is in parts: how many chunks it has, for who hears it to fetch them."""

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Before:
    """What was in force for a key, and by which revision, when another value was staged over it."""

    document: str
    admitted_at: float
    author: str
    set_id: str
    revision: int
    comment: str = codec.later("")


@dataclass(frozen=True, slots=True)
class Desired:
    """One document of desired state, as admitted. Signed by admission, stored under its key.

    ``document`` is the canonical JSON of the manifest, or empty when the object was deleted.
    ``set_id`` is common to the documents that were applied together. With ``before`` it is staged: that
    is in force until there is a :class:`Switch` of the set. What ``is_taken_back`` stands over something
    staged that was never switched: it was in force all the time.
    """

    key: str
    document: str
    admitted_at: float
    author: str
    set_id: str
    comment: str = codec.later("")
    before: Before | None = codec.later(None)
    is_taken_back: bool = codec.later(False)


@dataclass(frozen=True, slots=True)
class Switch:
    """Everything that was staged for a set is in force from this write on. Signed by admission, stored
    under ``set.mesh.<set_id>``."""

    set_id: str
    documents: int
    author: str
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a resource is put together from: the SHA-256 of each of its chunks, in order, and of the whole,
    which has ``size`` bytes. The chunks together are the whole, compressed with zlib."""

    chunks: tuple[bytes, ...]
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Compiled:
    """One compiled resource. Signed by the compiling role.

    ``version`` grows by one per change of the key, across writers and restarts. ``removed`` marks
    the end of the key (``resource`` is empty then). ``through`` is the mesh revision compiled from.
    Of a resource that is too large for one message there are ``parts`` instead (:mod:`ray_mesh.bus.chunks`).
    """

    key: str
    version: int
    through: int
    resource: bytes
    removed: bool = False
    parts: Parts | None = codec.later(None)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A compiled resource that a proxy refused, or that a shard cannot store; what was there stays."""

    key: str
    version: int
    reason: str


@dataclass(frozen=True, slots=True)
class Beacon:
    """What one RoutingActor (shard) has compiled; sent after each change and each 2 s.

    ``number`` grows by one per beacon. ``through`` holds for exactly the members in ``members``.
    ``changed`` maps keys written since the previous beacon to their version. They are spelt as they are
    stored: those of one node begin with it, since a workload that moves is written for both nodes.
    ``refused`` are those of its keys that cannot be stored as they are now; proxies keep what they had.
    """

    shard: str
    number: int
    at: float
    through: int
    members: tuple[str, ...]
    changed: dict[str, int]
    refused: tuple[Rejection, ...] = codec.later(())


@dataclass(frozen=True, slots=True)
class ProxyLease:
    """A proxy's heartbeat, each second and at once when what it serves changes.

    ``applied`` maps shards to the number of the newest beacon that is applied whole. ``ready`` are
    the keys of workloads that have their identity and listeners. ``inbound_port`` is the node's,
    ``admin_port`` the proxy's own on loopback (0: none). ``unhealthy`` are workloads that are ready and do
    not pass their probe: they are not served. ``number`` is that of the newest acknowledgement that is in
    here.
    """

    proxy: str
    epoch: str
    node: str
    address: str
    inbound_port: int
    version: str
    state: Literal["STARTING", "HEALTHY", "DRAINING"]
    ready: tuple[str, ...]
    applied: dict[str, int]
    rejected: tuple[Rejection, ...]
    pid: int
    svid_expires_at: float
    admin_port: int = codec.later(0)
    number: int = codec.later(0)
    unhealthy: tuple[str, ...] = codec.later(())

    @property
    def served(self) -> tuple[str, ...]:
        """The keys of the workloads that the proxy serves."""
        return tuple(key for key in self.ready if key not in self.unhealthy) if self.unhealthy else self.ready


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What a proxy has applied or refused, told at once when that changes; leases repeat it each second.

    ``number`` grows by one per acknowledgement of an ``epoch``. Fields are those of ProxyLease.
    """

    proxy: str
    epoch: str
    number: int
    applied: dict[str, int]
    rejected: tuple[Rejection, ...]


@dataclass(frozen=True, slots=True)
class RoleLease:
    """A control role's heartbeat, each 0.5 s; ``leaving`` ends it at once."""

    role: str
    instance: str
    epoch: str
    version: str
    pid: int
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class CsrRequest:
    """Asks for an SVID. ``workload`` is the key of a workload of the proxy's node, or empty for the
    proxy's own identity. Only the public key of the request is used. For a workload, ``proof`` is the
    signature (:mod:`ray_mesh.security.possession`) of the proxy's own key ``proxy_key`` (DER)."""

    workload: str
    csr_der: bytes
    proxy_key: bytes = b""
    proof: bytes = b""


@dataclass(frozen=True, slots=True)
class CsrReply:
    """The chain (leaf first, DER, without root) and the trust bundle, or why not."""

    chain: tuple[bytes, ...] = ()
    bundle: tuple[bytes, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class QuotaRequest:
    """Asks for tokens of one rate limit (``<namespace>/<name>``) for the current window. ``demand``
    is requests wanted; what the limit allows, the PolicyActor reads from desired state."""

    limit: str
    demand: int


@dataclass(frozen=True, slots=True)
class QuotaReply:
    """``granted`` tokens, good until ``expires_in_s`` from now; ``retry_in_s`` when there are none."""

    granted: int
    expires_in_s: float
    retry_in_s: float
    error: str = ""


@dataclass(frozen=True, slots=True)
class TelemetryReport:
    """One part of a proxy's totals. ``sequence`` grows by one per report; a report in ``parts``
    parts is complete when all parts of the sequence have arrived. ``folded`` counts requests that
    were recorded under ``__other__``."""

    proxy: str
    epoch: str
    sequence: int
    part: int
    parts: int
    at: float
    series: tuple[Series, ...]
    folded: int = 0


@dataclass(frozen=True, slots=True)
class EdgesRequest:
    """Asks a TelemetryActor for totals (``window_s`` 0) or for what came in the last seconds."""

    window_s: float


@dataclass(frozen=True, slots=True)
class EdgesReply:
    """The series that one TelemetryActor owns, merged over proxies; ``seconds`` is what the window
    really covers."""

    instance: str
    seconds: float
    series: tuple[Series, ...]
    proxies: tuple[str, ...]
    lost_reports: int = 0


@dataclass(frozen=True, slots=True)
class ReserveRequest:
    """Asks a node to bind loopback ports: one outbound port (``outbound`` 0 = any free one) and one
    per gateway port number."""

    outbound: int
    gateway_ports: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class ReserveReply:
    """The ports that the answering proxy holds now, or why not."""

    outbound: int = 0
    gateway_ports: tuple[tuple[int, int], ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class ControlRequest:
    """Asks the controller for its status, to take the mesh down, or to admit an observer.

    ``name`` and ``nkey`` (public half) are of the observer; one of that name is replaced.
    """

    verb: Literal["status", "down", "observe"]
    name: str = ""
    nkey: str = ""


@dataclass(frozen=True, slots=True)
class ActorStatus:
    """One actor as the controller sees it."""

    role: str
    name: str
    node: str
    state: str
    pid: int
    restarts: int


@dataclass(frozen=True, slots=True)
class ControlReply:
    """The controller's view of the mesh: ``warnings`` are sentences about how it was set up, ``problems`` on
    what it cannot mend by itself."""

    version: str
    actors: tuple[ActorStatus, ...] = ()
    nodes: tuple[str, ...] = ()
    error: str = ""
    warnings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """Asks the controller to accept a join token. It learns the hash (SHA-256, hexadecimal) only.

    ``account`` is ``<namespace>/<service account>``.
    """

    token_sha256: str
    account: str
    ttl_s: int


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """Asks the controller to admit a proxy outside Ray, by the hash of a join token that this uses up.

    ``nkey``, ``identity_key_sha256`` and ``letterbox`` are public halves of keys that the sidecar made;
    ``session_sha256`` is the hash of what it will prove itself with from now on.
    """

    token_sha256: str
    account: str
    node: str
    nkey: str
    identity_key_sha256: bytes
    session_sha256: str
    letterbox: bytes = b""


@dataclass(frozen=True, slots=True)
class JoinReply:
    """Who the sidecar's proxy is, where the broker listens, and whom to trust. All public but ``letter``:
    for a broker that is not ``embedded``, its credential, which only the sidecar's letterbox opens."""

    proxy: str
    broker_url: str
    trust_domain: str
    root_der: bytes
    compiled_public: bytes
    embedded: bool = True
    ca_pem: str = ""
    letter: bytes = b""


@dataclass(frozen=True, slots=True)
class SidecarRequest:
    """Asks about, or something for, the sidecar of a session: ``attest`` with its proxy's certificate
    ``chain`` (DER, leaf first), ``session`` to learn who it is, ``leave`` to end it."""

    session_sha256: str
    chain: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class SidecarReply:
    """Whose session it is."""

    proxy: str
    node: str
    account: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something a person should know. ``reason`` is a stable word, ``message`` a sentence."""

    at: float
    severity: Literal["info", "warning", "error"]
    reason: str
    message: str
    subject: str = ""


def encode(message: object) -> bytes:
    """The bytes of a message, with the schema version in front."""
    return b"\x82\xa1v" + _VERSION + b"\xa1m" + codec.pack(message)


def decode(cls: type[M], raw: bytes) -> M:
    """Read a message.

    Raises:
        PeerError: not a message, of another shape, or of a newer major version.
    """
    try:
        outer: Any = msgpack.unpackb(raw, raw=False)
        major, _minor = outer["v"]
        body = outer["m"]
    except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
        raise PeerError(f"{cls.__name__}: not a message of the mesh: {error!r}") from error
    if major != VERSION[0]:
        raise PeerError(f"{cls.__name__}: schema version {major} is not {VERSION[0]}: upgrade the older side")
    return codec.from_plain(cls, body)


_VERSION: bytes = msgpack.packb(list(VERSION))
