"""The state directory of a mesh: its keys, sealed, and who may read them.

    unlock            32 random bytes that open the sealed files (at rest it protects nothing more
                      than the folder itself; put it on another volume, or in memory, where that matters)
    root.crt          the trust root; root.sealed has its key, used to make intermediates only
    intermediate.sealed  signs SVIDs; opened by the CA actors
    admission.sealed  signs desired state; opened by the gateway actors, and by the controller for
    desired.export    the last value of every object of desired state, signed (docs/failures.md)
    compiled.sealed   signs compiled resources and beacons; opened by the routing actors
    nats/             credentials for a NATS that is not ours (control.sealed, proxies.sealed) and its ca.pem
    broker/           server.crt, server.key and the store of the embedded nats-server
    api/              server.crt and server.key of an API that other machines reach
    lock              held by the controller of the mesh that uses the folder
    mesh.json         the state file of that mesh, for a second `ray-mesh up` to find it by
    token             the API's bearer token, for `ray-mesh up` to write into the state file

Everything is mode 0600 in a folder of mode 0700, and is made once: a second start reads it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.serialization import Encoding

from ray_mesh.actors.settings import MeshKeys
from ray_mesh.bus.credentials import Login
from ray_mesh.errors import ConfigError
from ray_mesh.gateway.listening import ApiAddress
from ray_mesh.security.ca import Authority, chain_pem
from ray_mesh.security.sealed import RANDOM_SECRET_COST, read_private, seal, unseal, write_private
from ray_mesh.security.signing import SigningKey
from ray_mesh.security.svid import key_pem, new_key

LOCK_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class StateDir:
    """Paths and sealed contents of one mesh's state directory."""

    path: Path

    def create(self, trust_domain: str, broker_addresses: Sequence[str], api: ApiAddress) -> MeshKeys:
        """Make what is missing, renew what is due, and return the public halves.

        ``broker_addresses`` are the IPs that the broker listens on.

        Raises:
            ConfigError: the folder or a file in it is open to others, or cannot be unsealed.
        """
        self._create_signing_keys()
        self.broker.mkdir(mode=0o700, exist_ok=True)
        if not (self.path / "token").exists():
            write_private(self.path / "token", secrets.token_urlsafe(32).encode())
        now = time.time()
        self._create_ca(trust_domain, now)
        if not self.renew(broker_addresses, api, now):
            self._certify_servers(broker_addresses, api, now)
        return MeshKeys(
            root_der=self.authority().root.public_bytes(Encoding.DER),
            admission_public=self.signing_key("admission").public,
            compiled_public=self.signing_key("compiled").public,
            token_sha256=hashlib.sha256(self.token().encode()).hexdigest(),
        )

    def renew(self, broker_addresses: Sequence[str], api: ApiAddress, now: float) -> bool:
        """Make a new intermediate, and the servers' certificates of it, when it is due.

        Returns whether it was. The root, which everybody trusts, stays. ``now``: seconds since 1970.

        Raises:
            Unavailable: the root is expired.
        """
        if not self.authority().is_due(now):
            return False
        root = Authority.unseal(read_private(self.path / "root.sealed"), self._unlock())
        self._write_intermediate(root, now)
        self._certify_servers(broker_addresses, api, now)
        return True

    def admission_public(self) -> bytes:
        """The public half of the key that makes this mesh the owner of its buckets; made if it is missing.

        Raises:
            ConfigError: as :meth:`create`.
        """
        self._create_signing_keys()
        return self.signing_key("admission").public

    def store_logins(self, control: Login, proxies: Login | None, ca_pem: str) -> None:
        """Keep the credentials for a NATS that is not ours, and the CA of its servers, for the roles."""
        self.nats_ca.parent.mkdir(mode=0o700, exist_ok=True)
        write_private(self.nats_ca, ca_pem.encode())
        for name, login in (("control", control), ("proxies", proxies)):
            path = self._login_file(name)
            if login is None:
                path.unlink(missing_ok=True)
            else:
                write_private(path, seal(login.reveal(), self._unlock(), RANDOM_SECRET_COST))

    def login(self, name: Literal["control", "proxies"]) -> Login:
        """A credential of :meth:`store_logins`; that of the roles where proxies have none of their own."""
        path = self._login_file(name)
        sealed = read_private(path if path.exists() else self._login_file("control"))
        return Login(unseal(sealed, self._unlock()).decode())

    @property
    def nats_ca(self) -> Path:
        """The file with the CA of a NATS that is not ours; empty when the machine's roots will do."""
        return self.path / "nats" / "ca.pem"

    @property
    def broker(self) -> Path:
        """The folder of the embedded nats-server."""
        return self.path / "broker"

    @property
    def state_file(self) -> Path:
        """The state file of the mesh that uses this folder, there while it runs."""
        return self.path / "mesh.json"

    @property
    def desired_export(self) -> Path:
        """The copy of desired state that the mesh restores a lost store from."""
        return self.path / "desired.export"

    @property
    def _api(self) -> Path:
        return self.path / "api"

    def remove(self) -> None:
        """Remove the folder. Who waits for the end of the mesh waits for the state file, which goes last and
        disappears together with the folder."""
        with contextlib.suppress(OSError):
            for one in self.path.iterdir():
                if one.is_dir() and not one.is_symlink():
                    shutil.rmtree(one)
                elif one not in (self.state_file, self.path / "lock"):
                    one.unlink()
            gone = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}")
            self.path.rename(gone)
            shutil.rmtree(gone)
        shutil.rmtree(self.path, ignore_errors=True)

    def lock(self, timeout_s: float) -> int:
        """Hold the folder until this process ends; returns the descriptor that holds it.

        Raises:
            ConfigError: another mesh uses it.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        give_up_at = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError as error:
                if time.monotonic() > give_up_at:
                    os.close(descriptor)
                    raise ConfigError(
                        f"another mesh uses the state directory {self.path}: "
                        "end it, or give this one a --name or --state-dir of its own"
                    ) from error
                time.sleep(LOCK_POLL_S)

    def api_certificate(self) -> tuple[Path, Path]:
        """Certificate chain and key of the API, PEM."""
        return self._api / "server.crt", self._api / "server.key"

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

    def _login_file(self, name: str) -> Path:
        return self.nats_ca.with_name(f"{name}.sealed")

    def _create_signing_keys(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chmod(self.path, 0o700)
        if not (self.path / "unlock").exists():
            write_private(self.path / "unlock", secrets.token_bytes(32))
        for name in ("admission", "compiled"):
            if not (self.path / f"{name}.sealed").exists():
                write_private(
                    self.path / f"{name}.sealed",
                    SigningKey.generate().seal(self._unlock(), RANDOM_SECRET_COST),
                )

    def _create_ca(self, trust_domain: str, now: float) -> None:
        if (self.path / "intermediate.sealed").exists():
            return
        root = Authority.create_root(trust_domain, now)
        write_private(self.path / "root.crt", root.certificate.public_bytes(Encoding.PEM))
        write_private(self.path / "root.sealed", root.seal(self._unlock(), RANDOM_SECRET_COST))
        self._write_intermediate(root, now)

    def _write_intermediate(self, root: Authority, now: float) -> None:
        intermediate = root.create_intermediate(now).seal(self._unlock(), RANDOM_SECRET_COST)
        write_private(self.path / "intermediate.sealed", intermediate)

    def _certify_servers(self, broker_addresses: Sequence[str], api: ApiAddress, now: float) -> None:
        """New server keys and certificates at each start of a mesh and with each intermediate."""
        self._certify(self.broker, ["localhost"], broker_addresses, now)
        if not api.is_local:
            self._api.mkdir(mode=0o700, exist_ok=True)
            self._certify(self._api, *api.subjects(), now)

    def _certify(self, folder: Path, names: Sequence[str], addresses: Sequence[str], now: float) -> None:
        key = new_key()
        chain = self.authority().issue_server_certificate(key.public_key(), names, addresses, now)
        write_private(folder / "server.key", key_pem(key))
        write_private(folder / "server.crt", chain_pem(chain))

    def _unlock(self) -> bytes:
        return read_private(self.path / "unlock")
