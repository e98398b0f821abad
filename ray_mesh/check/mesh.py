"""Checks of a running mesh, from where this program runs."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from ray_mesh.check.finding import Finding, failed, ok, warning
from ray_mesh.errors import MeshError
from ray_mesh.sdk import AsyncMesh
from ray_mesh.sdk.answers import Proxy
from ray_mesh.sdk.state import MeshState

CONNECT_TIMEOUT_S = 5.0
SKEW_WARNED_S = 5.0
SKEW_REFUSED_S = 30.0
DAY_S = 86_400.0
SHORT_LEFT_S = 7 * DAY_S


async def look(state: MeshState) -> AsyncIterator[Finding]:
    """All of them, in the order in which one needs the other."""
    async with AsyncMesh(state) as mesh:
        reached = await api(mesh)
        yield reached
        broker_seen, certificate = await broker(state)
        yield broker_seen
        yield certificates(state, certificate, time.time())
        if reached.outcome == "ok":
            yield nats(state, (await mesh.status()).warnings)
            yield clocks(await mesh.clock(), time.time())
            yield await parts(mesh)
            yield renewals(await mesh.proxies(), time.time())


async def api(mesh: AsyncMesh) -> Finding:
    """Whether the API answers and takes our token."""
    try:
        version = await mesh.version()
    except MeshError as error:
        return failed(
            "api",
            mesh.state.api,
            str(error),
            "on the mesh's machine: `ray-mesh up`; elsewhere: --api and a copy of the state file",
        )
    return ok("api", f"{mesh.state.api} answers, version {version}")


def nats(state: MeshState, shared: tuple[str, ...]) -> Finding:
    """Whether each role and proxy has a credential of its own for the broker."""
    if state.broker.embedded:
        return ok("nats", "the mesh's own broker, with a credential for each role and proxy")
    return warning(
        "nats",
        f"{state.broker.url} is not the mesh's own",
        "; ".join(shared),
        "nothing, if that is acceptable; else `ray-mesh up` without --nats: its broker gives each its own",
    )


async def broker(state: MeshState) -> tuple[Finding, bytes]:
    """Whether the broker is reached and shows a certificate of this mesh; with that certificate (DER)."""
    if not state.broker.embedded:
        return await _own_nats(state), b""
    url = urlsplit(state.broker.url)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            trust = _trust(state.root_pem)
            der = await _broker_certificate(url.hostname or "", url.port or 4222, trust)
    except (OSError, TimeoutError, ssl.SSLError) as error:
        seen = failed(
            "broker",
            state.broker.url,
            str(error) or "no answer",
            "open its port to the nodes of the mesh, or run this check on one of them",
        )
        return seen, b""
    return ok("broker", f"{state.broker.url} shows a certificate of this mesh"), der


def certificates(state: MeshState, broker_der: bytes, now: float) -> Finding:
    """How long the root's and the broker's certificates are good; the broker's has its issuer's end."""
    chosen = {"root": x509.load_pem_x509_certificate(state.root_pem.encode())}
    if broker_der:
        chosen["broker"] = x509.load_der_x509_certificate(broker_der)
    left = {name: one.not_valid_after_utc.timestamp() - now for name, one in chosen.items()}
    detail = ", ".join(f"{name} {seconds / DAY_S:.0f} days" for name, seconds in left.items())
    if min(left.values()) < SHORT_LEFT_S:
        make = failed if min(left.values()) < 0 else warning
        return make(
            "certificates",
            f"left: {detail}",
            "they are made when the mesh starts, and not renewed while it runs",
            "`ray-mesh down` and `ray-mesh up`; with --state-dir the mesh keeps its configuration",
        )
    return ok("certificates", f"left: {detail}")


def clocks(theirs: float, now: float) -> Finding:
    """How far this clock is from the API's; both in Unix seconds."""
    skew_s = abs(now - theirs)
    detail = f"{skew_s:.1f} s from the API's clock"
    if skew_s <= SKEW_WARNED_S:
        return ok("clocks", detail)
    make = failed if skew_s > SKEW_REFUSED_S else warning
    return make(
        "clocks",
        detail,
        "certificates and beacons carry times, and are refused when clocks differ by more than 30 s",
        "run chrony or systemd-timesyncd on both machines",
    )


async def parts(mesh: AsyncMesh) -> Finding:
    """Whether every part of the mesh is there and in step."""
    found = await mesh.status()
    if found.problems:
        return failed(
            "parts", found.problems[0], "; ".join(found.problems), "`ray-mesh status` and `ray-mesh events`"
        )
    return ok("parts", f"{len(found.actors)} actors, {len(found.nodes)} nodes")


def renewals(proxies: tuple[Proxy, ...], now: float) -> Finding:
    """Whether workload certificates are renewed in time."""
    late = [one.proxy for one in proxies if one.svid_expires_at and one.svid_expires_at < now]
    if late:
        return failed(
            "renewals",
            f"expired in {', '.join(late)}",
            "no CertificateAuthority answers, or the proxy's clock is wrong",
            "`ray-mesh status`, and the clocks of the nodes",
        )
    return ok("renewals", f"{len(proxies)} proxies hold certificates that are good")


async def _own_nats(state: MeshState) -> Finding:
    """Whether all servers of a NATS that is not the mesh's own are reached."""
    troubles = []
    for server in state.broker.url.split(","):
        url = urlsplit(server.strip())
        try:
            trust = _trust(_read(state.broker.ca_pem_path)) if url.scheme == "tls" else None
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await _broker_certificate(url.hostname or "", url.port or 4222, trust)
        except (OSError, TimeoutError, ssl.SSLError) as error:
            troubles.append(f"{server.strip()}: {error or 'no answer'}")
    if troubles:
        return failed(
            "broker",
            state.broker.url,
            "; ".join(troubles),
            "open its port to the nodes of the mesh; run this check on its machine, where the CA's file is",
        )
    return ok("broker", f"{state.broker.url} answers")


def _read(path: str) -> str:
    return Path(path).read_text() if path else ""


def _trust(root_pem: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if root_pem:
        context.load_verify_locations(cadata=root_pem)
    else:
        context.load_default_certs()
    return context


async def _broker_certificate(host: str, port: int, trust: ssl.SSLContext | None) -> bytes:
    """NATS says INFO in the clear, then takes TLS, unless there is nothing to ``trust``."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        if not (await reader.readline()).startswith(b"INFO "):
            raise OSError("what answers there is no NATS")
        if trust is None:
            return b""
        await writer.start_tls(trust, server_hostname=host)
        der: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return der
    finally:
        writer.close()
