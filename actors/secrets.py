"""The state directory of a mesh: its keys, sealed, and who may read them.

    unlock            32 random bytes that open the sealed files (at rest it protects nothing more
                      than the folder itself; put it on another volume, or in memory, where that matters)
    root.crt          the trust root; root.sealed has its key, used to make intermediates only
    intermediate.sealed  signs SVIDs; opened by the CA actors
    admission.sealed  signs desired state; opened by the gateway actors
    compiled.sealed   signs compiled resources and beacons; opened by the routing actors
    broker/           server.crt, server.key and the store of the embedded nats-server
    token             the API's bearer token, for `ray-mesh up` to write into the state file

Everything is mode 0600 in a folder of mode 0700, and is made once: a second start reads it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from ray_mesh.actors.settings import MeshKeys
from ray_mesh.security.ca import Authority, chain_pem
from ray_mesh.security.sealed import RANDOM_SECRET_COST, read_private, write_private
from ray_mesh.security.signing import SigningKey
from ray_mesh.security.svid import key_pem, new_key


@dataclass(frozen=True, slots=True)
class StateDir:
    """Paths and sealed contents of one mesh's state directory."""

    path: Path

    def create(self, trust_domain: str, broker_addresses: Sequence[str]) -> MeshKeys:
        """Make what is missing and return the public halves. ``broker_addresses``: IPs it listens on.

        Raises:
            ConfigError: the folder or a file in it is open to others, or cannot be unsealed.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chmod(self.path, 0o700)
        self.broker.mkdir(mode=0o700, exist_ok=True)
        if not (self.path / "unlock").exists():
            write_private(self.path / "unlock", secrets.token_bytes(32))
        if not (self.path / "token").exists():
            write_private(self.path / "token", secrets.token_urlsafe(32).encode())
        self._create_ca(trust_domain)
        self._certify_broker(broker_addresses)
        for name in ("admission", "compiled"):
            if not (self.path / f"{name}.sealed").exists():
                write_private(
                    self.path / f"{name}.sealed",
                    SigningKey.generate().seal(self._unlock(), RANDOM_SECRET_COST),
                )
        return MeshKeys(
            root_der=self.authority().root.public_bytes(Encoding.DER),
            admission_public=self.signing_key("admission").public,
            compiled_public=self.signing_key("compiled").public,
            token_sha256=hashlib.sha256(self.token().encode()).hexdigest(),
        )

    @property
    def broker(self) -> Path:
        """The folder of the embedded nats-server."""
        return self.path / "broker"

    def broker_url(self) -> str:
        """Where the embedded broker listens."""
        return (self.broker / "url").read_text()

    def token(self) -> str:
        """The API's bearer token."""
        return read_private(self.path / "token").decode()

    def root_pem(self) -> str:
        """The trust root, public."""
        return read_private(self.path / "root.crt").decode()

    def signing_key(self, name: str) -> SigningKey:
        """The ``admission`` or ``compiled`` key."""
        return SigningKey.unseal(read_private(self.path / f"{name}.sealed"), self._unlock())

    def authority(self) -> Authority:
        """The intermediate that signs SVIDs."""
        return Authority.unseal(read_private(self.path / "intermediate.sealed"), self._unlock())

    def _create_ca(self, trust_domain: str) -> None:
        if (self.path / "intermediate.sealed").exists():
            return
        now = time.time()
        root = Authority.create_root(trust_domain, now)
        write_private(self.path / "root.crt", root.certificate.public_bytes(Encoding.PEM))
        write_private(self.path / "root.sealed", root.seal(self._unlock(), RANDOM_SECRET_COST))
        intermediate = root.create_intermediate(now).seal(self._unlock(), RANDOM_SECRET_COST)
        write_private(self.path / "intermediate.sealed", intermediate)

    def _certify_broker(self, addresses: Sequence[str]) -> None:
        """A new key and certificate at each start of a mesh: they need not outlive one."""
        key = new_key()
        chain = self.authority().issue_server_certificate(
            key.public_key(), ["localhost"], addresses, time.time()
        )
        write_private(self.broker / "server.key", key_pem(key))
        write_private(self.broker / "server.crt", chain_pem(chain))

    def _unlock(self) -> bytes:
        return read_private(self.path / "unlock")
