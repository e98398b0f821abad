"""``up`` on a NATS of somebody's own: its credentials are read, tried, and kept where the roles find them."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ray_mesh.actors.secrets import StateDir
from ray_mesh.bus.credentials import Login
from ray_mesh.bus.external import ExternalNats
from ray_mesh.bus.preflight import examine
from ray_mesh.bus.store import Owner
from ray_mesh.errors import ConfigError

CREDENTIAL_VARIABLE = "RAY_MESH_NATS_CREDS"
PROXY_VARIABLE = "RAY_MESH_NATS_PROXY_CREDS"
LOCK_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class NatsChoice:
    """What a person chose. ``credentials`` and ``proxy_credentials`` are private files; None: what
    ``$RAY_MESH_NATS_CREDS`` and ``$RAY_MESH_NATS_PROXY_CREDS`` hold. ``ca_file`` None: the machine's CAs."""

    url: str
    credentials: Path | None = None
    proxy_credentials: Path | None = None
    ca_file: Path | None = None
    replicas: int = 0


@dataclass(frozen=True, slots=True)
class OwnNats:
    """A choice with its files read: where it is, and the credentials of roles and, maybe, of proxies."""

    settings: ExternalNats
    control: Login | None
    proxies: Login | None

    @classmethod
    def read(cls, choice: NatsChoice) -> OwnNats:
        """Read the files; what comes from the environment is taken out of it, so that no child inherits it.

        Raises:
            ConfigError: an address that cannot be used, or a file that cannot be read or is open to others.
        """
        control = _login(choice.credentials, CREDENTIAL_VARIABLE)
        proxies = _login(choice.proxy_credentials, PROXY_VARIABLE)
        settings = ExternalNats(choice.url, _pem(choice.ca_file), choice.replicas, proxies is not None)
        return cls(settings, control, proxies)

    def prepare(self, state_dir: StateDir, mesh: str) -> list[str]:
        """Look at the NATS, and keep its credentials in the state directory. Returns warnings.

        Raises:
            MeshError: as :func:`ray_mesh.bus.preflight.examine`.
            ConfigError: there is no credential, or another mesh uses the state directory.
        """
        if self.control is None:
            raise ConfigError(
                f"{self.settings.url}: the mesh needs a credential for it, in a private file (--nats-creds)"
                f" or in ${CREDENTIAL_VARIABLE}"
            )
        lock = state_dir.lock(LOCK_TIMEOUT_S)
        try:
            owner = Owner(mesh, state_dir.admission_public())
            look = examine(self.settings, self.control, self.proxies, owner)
            # A notebook has a loop on this thread already.
            with ThreadPoolExecutor(1) as thread:
                warnings = thread.submit(asyncio.run, look).result()
            state_dir.store_logins(self.control, self.proxies, self.settings.ca_pem)
        finally:
            os.close(lock)
        return [*warnings, *self.settings.shared()]


def _login(path: Path | None, variable: str) -> Login | None:
    text = os.environ.pop(variable, "")
    if path is not None:
        return Login.read(path)
    return Login(text) if text else None


def _pem(path: Path | None) -> str:
    try:
        return path.read_text() if path else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the CA of NATS in {path}: {error}") from error
