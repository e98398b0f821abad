"""Certificates of one authority for both sides of a bench, as files that any proxy reads."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from bench_load import Tls
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ray_mesh.security.bundle import Bundle
from ray_mesh.security.ca import Authority
from ray_mesh.security.identity import for_workload
from ray_mesh.security.svid import Svid, csr, new_key

TRUST_DOMAIN = "mesh.local"
ACCOUNTS = ("caller", "reviews", "db")


@dataclass(frozen=True, slots=True)
class Pki:
    """A folder with ``roots.pem``, and for each account key and chain in one file and in two."""

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> Pki:
        """Make an authority and issue its certificates."""
        root = Authority.create_root(TRUST_DOMAIN, time.time())
        authority = root.create_intermediate(time.time())
        (folder / "roots.pem").write_text(root.bundle().pem())
        for account in ACCOUNTS:
            key = new_key()
            name = for_workload(TRUST_DOMAIN, "default", account)
            svid = Svid.from_der(authority.issue(csr(key), name, 3600, time.time()), key)
            (folder / f"{account}.pem").write_bytes(svid.key_pem() + svid.chain_pem())
            (folder / f"{account}.key").write_bytes(svid.key_pem())
            (folder / f"{account}.crt").write_bytes(svid.chain_pem())
        return cls(folder)

    @property
    def roots(self) -> str:
        """The file with the roots."""
        return str(self.folder / "roots.pem")

    def file(self, account: str, kind: str = "pem") -> str:
        """A file of an account: ``pem`` (key and chain), ``key`` or ``crt``."""
        return str(self.folder / f"{account}.{kind}")

    def tls(self) -> Tls:
        """How the caller connects to what serves the reviews."""
        return Tls(self.file("caller"), self.roots, sni("reviews"))

    def svid(self, account: str) -> Svid:
        """An account's certificate in use."""
        key = load_pem_private_key(Path(self.file(account, "key")).read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        chain = x509.load_pem_x509_certificates(Path(self.file(account, "crt")).read_bytes())
        return Svid(tuple(chain), key)

    def bundle(self) -> Bundle:
        """The roots."""
        roots = x509.load_pem_x509_certificates(Path(self.roots).read_bytes())
        return Bundle(TRUST_DOMAIN, tuple(roots))


def sni(account: str) -> str:
    """The name in the handshake that leads to a workload."""
    return f"{account}.default.workload.mesh"
