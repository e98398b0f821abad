"""What every role is told when it starts. Everything here is public: no key, token or password.

Secrets are read from the state directory by the role that owns them, or made in its process; they
never travel through Ray.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ray_mesh.bus.external import ExternalNats
from ray_mesh.gateway.listening import ApiAddress


@dataclass(frozen=True, slots=True)
class Replicas:
    """How many instances of each control role run, and proxies per node."""

    ca: int = 1
    routing: int = 1
    policy: int = 1
    telemetry: int = 1
    gateway: int = 1
    proxies: int = 2

    @classmethod
    def uniform(cls, count: int, proxies: int = 2) -> Replicas:
        """The same number of each control role."""
        return cls(ca=count, routing=count, policy=count, telemetry=count, gateway=count, proxies=proxies)


@dataclass(frozen=True, slots=True)
class MeshOptions:
    """What a person chose.

    ``state_dir`` holds the store, sealed keys and the actor inventory, on the node where the mesh was
    started; ``keep_state`` says whether it is there after the mesh went down. With ``nats`` no broker is
    started; its credentials are in the state directory.
    ``api_port`` 0 means any free port. ``bind_address`` is where proxies and broker listen; empty
    means each node's own address. Durations are seconds.
    """

    name: str = "default"
    state_dir: Path = Path()
    keep_state: bool = True
    namespace: str = "ray-mesh"
    trust_domain: str = "mesh.local"
    root_namespace: str = "mesh-system"
    replicas: Replicas = field(default_factory=Replicas)
    svid_ttl_s: int = 3600
    api: ApiAddress = field(default_factory=ApiAddress)
    api_port: int = 0
    bind_address: str = ""
    nats: ExternalNats | None = None

    def to_plain(self) -> dict[str, Any]:
        """Maps and scalars, for a controller of another version: it may have other fields."""
        return {**asdict(self), "state_dir": str(self.state_dir)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> MeshOptions:
        """What :meth:`to_plain` of an older version made; what it did not know has its default."""
        nats = plain.get("nats")
        nested = {
            "api": ApiAddress(**plain["api"]),
            "replicas": Replicas(**plain["replicas"]),
            "nats": ExternalNats(**nats) if nats else None,
        }
        return cls(**{**plain, "state_dir": Path(plain["state_dir"]), **nested})


@dataclass(frozen=True, slots=True)
class MeshKeys:
    """The public halves of the mesh's keys, made once per mesh."""

    root_der: bytes
    admission_public: bytes
    compiled_public: bytes
    token_sha256: str


@dataclass(frozen=True, slots=True)
class RoleSettings:
    """One actor's place in the mesh."""

    role: str
    instance: str
    node: str
    node_address: str
    options: MeshOptions
    keys: MeshKeys
    api_port: int = 0


@dataclass(frozen=True, slots=True)
class Prepared:
    """What an actor made for itself before it may talk to the broker: public halves only. A credential
    for a NATS that is not ours is sent to the ``letterbox``."""

    nkey_public: str
    identity_key_sha256: bytes = b""
    letterbox: bytes = b""


@dataclass(frozen=True, slots=True)
class Description:
    """What an actor is, for the version handshake and for ``status``.

    Controllers read those of older actors: new fields go to the end.
    """

    role: str
    instance: str
    version: str
    pid: int
    healthy: bool
    detail: str = ""
    inbound_port: int = 0
    api_port: int = 0
    node: str = ""
    state_dir: str = ""
    trouble: str = ""


def why_no_sidecars(options: MeshOptions) -> str:
    """Why sidecars are refused, empty when they are not.

    With one NATS credential for all, a sidecar would hold that of the roles, and could answer in the name
    of the controller who it is.
    """
    if options.nats is None or options.nats.has_proxy_login:
        return ""
    return (
        "this mesh has one NATS credential for roles and proxies, which no sidecar may hold: start it with"
        " --nats-proxy-creds, a credential of an account without JetStream (docs/nats.md)"
    )
