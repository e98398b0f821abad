"""Identities of a running mesh: refused without the right one, renewed under traffic, never written."""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from mesh_site import Site, eventually

from ray_mesh.security.ca import Authority, chain_pem
from ray_mesh.security.identity import for_workload
from ray_mesh.security.svid import csr, key_pem, new_key

SNI = "reviews-v1.default.workload.mesh"


def inbound(site: Site) -> tuple[str, int]:
    proxy = site.mesh.proxies()[0]
    return proxy.address, proxy.inbound_port


def client_context(site: Site, certificate: tuple[bytes, bytes] | None, folder: Path) -> ssl.SSLContext:
    """A TLS client of the mesh's root with a certificate chain and key in PEM, or with none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(Path(site.running.state.state_dir) / "root.crt")
    if certificate is not None:
        (folder / "chain.pem").write_bytes(certificate[0])
        (folder / "key.pem").write_bytes(certificate[1])
        context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    return context


def ask(site: Site, context: ssl.SSLContext, path: str = "/reviews/0") -> bytes:
    """The raw answer of reviews-v1's proxy; empty when it ends the connection."""
    with (
        socket.create_connection(inbound(site), timeout=5.0) as raw,
        context.wrap_socket(raw, server_hostname=SNI) as tls,
    ):
        tls.sendall(f"GET {path} HTTP/1.1\r\nhost: reviews:9080\r\n\r\n".encode())
        return tls.recv(65536)


def refused(site: Site, context: ssl.SSLContext) -> bool:
    try:
        return ask(site, context) == b""
    except (ssl.SSLError, ConnectionError):
        return True


def test_without_a_client_certificate_nothing_is_answered(site: Site, tmp_path: Path) -> None:
    assert refused(site, client_context(site, None, tmp_path))


def test_a_certificate_of_another_ca_is_refused_though_it_claims_our_trust_domain(
    site: Site, tmp_path: Path
) -> None:
    now = time.time()
    foreign = Authority.create_root("mesh.local", now).create_intermediate(now)
    key = new_key()
    identity = for_workload("mesh.local", "default", "bookinfo-productpage")
    chain = foreign.issue(csr(key), identity, 60, now)
    assert refused(site, client_context(site, (chain_pem(chain), key_pem(key)), tmp_path))


def test_certificates_are_renewed_under_traffic_and_no_request_fails(site: Site) -> None:
    """The mesh of these tests issues for 20 s, so every identity is renewed about every 10 s."""
    before = {proxy.proxy: proxy.svid_expires_at for proxy in site.mesh.proxies()}
    with site.traffic(rate=20.0) as tally:
        eventually(
            lambda: all(proxy.svid_expires_at > before[proxy.proxy] + 15 for proxy in site.mesh.proxies()),
            timeout_s=60.0,
        )
    assert tally.requests > 100
    assert not tally.failures, tally.problems


def test_no_private_key_of_a_workload_is_on_disk_or_in_a_log(site: Site) -> None:
    """Everything that the mesh and its Ray session wrote, and the object store, holds no key in PEM;
    what is sealed, and the broker's own server key, are the only exceptions."""
    allowed = {Path(site.running.state.state_dir) / "broker" / "server.key"}
    marker = re.compile(rb"-----BEGIN (EC |)PRIVATE KEY-----|\bSU[A-Z2-7]{56}\b")
    found = [path for path in written_files(site) if path not in allowed and marker.search(read(path))]
    assert found == []


def test_no_process_argument_or_environment_holds_a_credential(site: Site) -> None:
    token = site.running.state.token
    for process in psutil.Process(os.getpid()).children(recursive=True):
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        assert not any(token in word or "PRIVATE KEY" in word for word in words), process


def written_files(site: Site) -> list[Path]:
    folders = [Path(site.running.state.state_dir), *site.running.temporary]
    paths = [path for folder in folders for path in folder.rglob("*")]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, PermissionError, OSError):
        return b""


def test_openssl_sees_the_identity_and_no_session_ticket(site: Site) -> None:
    address, port = inbound(site)
    answer = subprocess.run(
        ["openssl", "s_client", "-connect", f"{address}:{port}", "-servername", SNI, "-showcerts"],
        input=b"",
        capture_output=True,
        timeout=20,
        check=False,
    ).stdout
    if not answer:
        pytest.skip("no openssl program here")
    assert b"TLSv1.3" in answer
    assert b"New Session Ticket" not in answer
