"""Our side of ``make bench-proxy``: a plane that carries calls out, or in, as a process of its own.

The outbound one has the caller's routes, the inbound one the application's policies; between them, and
from the load generator to the inbound one, runs mutual TLS. Run as a program it takes :class:`Settings`
as JSON, prints its port and the caller's credentials as JSON, then answers each line ``totals`` on
standard input with what telemetry has counted.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import uvloop
from bench_plane import (
    NODE,
    PORTS,
    SUFFIX,
    TOKEN,
    TRUST_DOMAIN,
    TlsWhereNamed,
    endpoint,
    policies,
    reviews,
    totals,
    workload,
)
from bench_process import free_port
from bench_upstream import ADDRESSES, TCP_ADDRESS
from proxy_pki import Pki, sni

from ray_mesh import snapshot
from ray_mesh.proxy.overload import OverloadLimits
from ray_mesh.proxy.plane import DataPlane, PlaneConfig
from ray_mesh.proxy.vitals import freeze

DB = f"db.{SUFFIX}"
DB_PORT = 3306
LIMITS = OverloadLimits(max_connections=50_000)
"""Beyond what a bench opens: nothing is shed."""


@dataclass(frozen=True, slots=True)
class Settings:
    """``role`` is outbound or inbound. ``peer_port`` is the inbound plane's, 0 calls the application in
    plaintext. ``hosts`` more services get ``routes`` routes each. ``speaks_http2``: the application does.
    ``h2_upgrade`` is the caller's DestinationRule's."""

    role: str
    folder: str
    app_port: int
    peer_port: int = 0
    hosts: int = 0
    routes: int = 0
    speaks_http2: bool = False
    h2_upgrade: Literal["", "UPGRADE", "DO_NOT_UPGRADE"] = ""


def host_name(number: int) -> str:
    """The short name of one of many services."""
    return f"shop{number}"


def one_of_many(number: int, routes: int, app_port: int) -> tuple[snapshot.Service, snapshot.Endpoints]:
    """A service whose routes are told apart by prefix; the last one takes ``/reviews``."""
    name = host_name(number)
    host = f"{name}.{SUFFIX}"
    prefixes = [*(f"/r{index}/" for index in range(routes - 1)), "/reviews"]
    listed = tuple(
        snapshot.Route(
            f"route-{index}",
            "bench",
            (snapshot.RequestMatch(uri=snapshot.StringMatch("prefix", prefix)),),
            (snapshot.Destination(host),),
        )
        for index, prefix in enumerate(prefixes)
    )
    member = endpoint(name, ADDRESSES[number % len(ADDRESSES)], app_port, "v1")
    service = snapshot.Service(host, "default", name, PORTS, (), listed)
    return service, snapshot.Endpoints(host, (member,))


def database(settings: Settings) -> tuple[snapshot.Service, snapshot.Endpoints]:
    """A service of bytes: at the inbound plane if there is one, else the application, without TLS."""
    ports = (snapshot.Port(DB_PORT, "mysql", "tcp"),)
    service = snapshot.Service(DB, "default", "db", ports, (), (), plaintext=not settings.peer_port)
    member = endpoint("db", "127.0.0.1", settings.peer_port or settings.app_port, "v1", sni("db"))
    if not settings.peer_port:
        member = replace(member, address=TCP_ADDRESS, sni="", identity="", transport="plaintext")
    return service, snapshot.Endpoints(DB, (member,))


def configure(plane: DataPlane, settings: Settings) -> int:
    """Apply everything; the port to call."""
    pki = Pki(Path(settings.folder))
    plane.set_bundles({TRUST_DOMAIN: pki.bundle()})
    is_outbound = settings.role == "outbound"
    account = "caller" if is_outbound else "reviews"
    local = workload(account, free_port() if is_outbound else settings.app_port)
    if settings.speaks_http2:
        local = replace(local, app_protocol="http2")
    if not is_outbound:
        local = replace(local, policies=policies())
    key = f"workload.default.{account}"
    plane.apply(key, local)
    plane.set_identity(key, pki.svid(account))
    if not is_outbound:
        stored = replace(workload("db", settings.app_port), services=(DB,), tcp_ports=((DB, DB_PORT),))
        plane.apply("workload.default.db", replace(stored, is_tcp_only=True))
        plane.set_identity("workload.default.db", pki.svid("db"))
        return plane.inbound_port
    services = [reviews(settings.app_port)]
    if settings.speaks_http2:
        service, endpoints = services[0]
        services = [(replace(service, ports=(snapshot.Port(80, "grpc", "grpc"),)), endpoints)]
    if settings.h2_upgrade:
        service, endpoints = services[0]
        limits = snapshot.ConnectionLimits(h2_upgrade=settings.h2_upgrade)
        policy = snapshot.TrafficPolicy("bench", limits)
        subsets = tuple(replace(subset, traffic=policy) for subset in service.subsets)
        services = [(replace(service, subsets=subsets, traffic=policy), endpoints)]
    if settings.peer_port:
        service, endpoints = services[0]
        meshed = tuple(
            replace(one, address="127.0.0.1", port=settings.peer_port, sni=sni("reviews"))
            for one in endpoints.endpoints[::2]
        )
        services = [(service, replace(endpoints, endpoints=meshed))]
    services.append(database(settings))
    services += [one_of_many(number, settings.routes, settings.app_port) for number in range(settings.hosts)]
    for service, endpoints in services:
        plane.apply(snapshot.key_for("service", service.host), service)
        plane.apply(snapshot.key_for("endpoints", service.host), endpoints)
    return local.outbound_port


def counted(plane: DataPlane) -> dict[str, int]:
    """Requests answered 200 by anybody, tunnels, and denials."""
    series = plane.series.totals()
    return {
        **totals(series),
        "tunnels": sum(one.opened for one in series),
        "served": sum(one.requests for one in series if one.edge.code == 200),
    }


async def serve(settings: Settings) -> None:
    """Serve, and answer questions until standard input ends."""
    plane = DataPlane(PlaneConfig("bench-0", NODE, TRUST_DOMAIN, limits=LIMITS), TlsWhereNamed())
    await plane.start()
    port = configure(plane, settings)
    freeze()
    credentials = base64.b64encode(f"caller:{TOKEN}".encode()).decode()
    print(json.dumps({"port": port, "authorization": f"Basic {credentials}"}), flush=True)
    questions = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(questions), sys.stdin)
    while (await questions.readline()).strip() == b"totals":
        print(json.dumps(counted(plane)), flush=True)
    await plane.stop()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(Settings(**json.loads(sys.argv[1]))))
