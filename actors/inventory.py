"""What a controller must remember of its actors to survive its own restart. No secrets."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ray_mesh.actors.settings import Replicas
from ray_mesh.bus import subjects
from ray_mesh.bus.permissions import Permissions, permissions
from ray_mesh.errors import ConfigError
from ray_mesh.security.join import JoinToken, JoinTokens
from ray_mesh.security.registrations import ProxyRegistration
from ray_mesh.security.sealed import read_private, write_private


@dataclass(frozen=True, slots=True)
class Member:
    """One actor that may use the broker: its place, its name and the public halves of its keys.

    A sidecar is a proxy with no actor: ``account`` is the service account that it joined for, and
    ``session_sha256`` the hash of what it proves itself with to the API.
    """

    role: str
    index: int
    node: str
    instance: str
    nkey_public: str
    attested: bool = True
    identity_key_sha256: str = ""
    account: str = ""
    session_sha256: str = ""

    @property
    def is_actor(self) -> bool:
        """Whether it runs in Ray, so that the controller can find it there."""
        return self.role != "observer" and not self.account

    def allowed(self) -> Permissions:
        """What the broker lets it do."""
        return permissions(self.role, self.instance, node=self.node, attested=self.attested)

    def registration(self) -> ProxyRegistration:
        """What the CA must know of a proxy."""
        return ProxyRegistration(
            self.node, self.nkey_public, bytes.fromhex(self.identity_key_sha256), self.account
        )


@dataclass(slots=True)
class Inventory:
    """The members by name (observers by ``observer <name>``), join tokens by hash, the ports that
    outlive actors, how many of each role run if that was changed, the file."""

    path: Path
    api_port: int = 0
    inbound_ports: dict[str, int] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    tokens: JoinTokens = field(default_factory=JoinTokens)
    replicas: Replicas | None = None

    @classmethod
    def load(cls, path: Path) -> Inventory:
        """Read the file, or begin empty.

        Raises:
            ConfigError: the file is open to others.
        """
        if not path.exists():
            return cls(path)
        raw = json.loads(read_private(path))
        members = {key: Member(**each) for key, each in raw["members"].items()}
        tokens = {key: JoinToken(**each) for key, each in raw.get("tokens", {}).items()}
        replicas = Replicas(**raw["replicas"]) if raw.get("replicas") else None
        return cls(path, raw["api_port"], raw["inbound_ports"], members, JoinTokens(tokens), replicas)

    def save(self) -> None:
        """Write the file, whole or not at all."""
        content = {
            "api_port": self.api_port,
            "inbound_ports": self.inbound_ports,
            "members": {key: asdict(member) for key, member in self.members.items()},
            "tokens": {key: asdict(token) for key, token in self.tokens.tokens.items()},
            "replicas": asdict(self.replicas) if self.replicas else None,
        }
        write_private(self.path, json.dumps(content).encode())

    def put_observer(self, name: str, nkey: str) -> None:
        """Admit an observer, in the place of one of that name.

        Raises:
            ConfigError: a bad name, or a key that another member has: it would get this one's rights.
        """
        key = f"observer {subjects.token(name)}"
        if any(one.nkey_public == nkey for other, one in self.members.items() if other != key):
            raise ConfigError(f"observer {name} needs a key of its own: this one is of another client")
        self.members[key] = Member("observer", 0, "", name, nkey)

    def users(self) -> dict[str, Permissions]:
        """Who the broker admits, and to what."""
        return {member.nkey_public: member.allowed() for member in self.members.values()}
