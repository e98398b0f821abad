"""Our side: one data plane with the features of a mesh on, as a process of its own.

``reviews`` is what is measured: a route list with a header match and a weighted split over four
endpoints in plaintext, like the peer's. ``guarded`` proves that policy is enforced: calls to it leave
and enter this plane over mutual TLS, and a policy denies some of them.

Run as a program it takes the application's port, prints its own port and credentials as JSON, then
answers each line ``totals`` on standard input with what telemetry has counted.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import sys
import time
from collections.abc import Sequence

import uvloop
from bench_process import free_port
from bench_upstream import ADDRESSES

from ray_mesh import snapshot
from ray_mesh.proxy.connector import HttpClient, MutualTls, Plaintext, UpstreamConnector
from ray_mesh.proxy.plane import DataPlane, PlaneConfig
from ray_mesh.proxy.pool import Pool
from ray_mesh.proxy.tls import Identity
from ray_mesh.security.ca import Authority
from ray_mesh.security.identity import for_workload
from ray_mesh.security.svid import Svid, csr, new_key
from ray_mesh.telemetry.series import Series

TRUST_DOMAIN = "mesh.local"
NODE = "bench"
TOKEN = "bench-token"
SUFFIX = "default.svc.cluster.local"
PORTS = (snapshot.Port(80, "http"),)


class TlsWhereNamed:
    """Mutual TLS to endpoints that have an SNI, plaintext to the others."""

    def __init__(self) -> None:
        self._mesh: UpstreamConnector = MutualTls()
        self._plaintext: UpstreamConnector = Plaintext()

    async def connect(self, endpoint: snapshot.Endpoint, identity: Identity | None, pool: Pool) -> HttpClient:
        """See :class:`UpstreamConnector`."""
        connector = self._mesh if endpoint.sni else self._plaintext
        return await connector.connect(endpoint, identity, pool)


def identity(name: str) -> str:
    """The SPIFFE ID of the service account ``name``."""
    return str(for_workload(TRUST_DOMAIN, "default", name))


def workload(name: str, app_port: int, policies: tuple[snapshot.Policy, ...] = ()) -> snapshot.Workload:
    """A workload of this node with an outbound port of its own."""
    return snapshot.Workload(
        namespace="default",
        name=name,
        node=NODE,
        service_account=name,
        identity=identity(name),
        sni=f"{name}.default.workload.mesh",
        labels=(("app", name), ("version", "v1")),
        app_address="127.0.0.1",
        app_port=app_port,
        outbound_port=free_port(),
        token_sha256=hashlib.sha256(TOKEN.encode()).digest(),
        services=(f"{name}.{SUFFIX}",),
        policies=policies,
    )


def endpoint(name: str, address: str, port: int, version: str, sni: str = "") -> snapshot.Endpoint:
    """An endpoint of the service ``name`` without its version's number."""
    return snapshot.Endpoint(
        workload=f"default/{name}",
        address=address,
        port=port,
        sni=sni,
        identity=identity(name),
        labels=(("app", name), ("version", version)),
        node=NODE,
    )


def reviews(port: int) -> tuple[snapshot.Service, snapshot.Endpoints]:
    """The measured service, with the routes that the peer has."""
    host = f"reviews.{SUFFIX}"
    jason = snapshot.NamedMatch("end-user", snapshot.StringMatch("exact", "jason"))
    to_jason = snapshot.RequestMatch(uri=snapshot.StringMatch("prefix", "/"), headers=(jason,))
    split = (snapshot.Destination(host, "v1", weight=90), snapshot.Destination(host, "v2", weight=10))
    subsets = tuple(snapshot.Subset(name, (("version", name),)) for name in ("v1", "v2"))
    routes = (
        snapshot.Route("jason", "bench", (to_jason,), (snapshot.Destination(host, "v2"),)),
        snapshot.Route("everybody", "bench", (), split),
    )
    service = snapshot.Service(host, "default", "reviews", PORTS, subsets, routes)
    versions = zip(ADDRESSES, ("v1", "v1", "v2", "v2"), strict=True)
    members = tuple(endpoint("reviews", address, port, version) for address, version in versions)
    return service, snapshot.Endpoints(host, members)


def guarded(inbound_port: int) -> tuple[snapshot.Service, snapshot.Endpoints]:
    """The service behind a policy, reached over mutual TLS."""
    host = f"guarded.{SUFFIX}"
    routes = (snapshot.Route("guarded", "bench", (), (snapshot.Destination(host),)),)
    service = snapshot.Service(host, "default", "guarded", PORTS, (), routes)
    member = endpoint("guarded", "127.0.0.1", inbound_port, "v1", sni="guarded.default.workload.mesh")
    return service, snapshot.Endpoints(host, (member,))


def policies() -> tuple[snapshot.Policy, ...]:
    """Callers by identity, and nobody below ``/admin``."""
    caller = snapshot.ValueMatch("exact", identity("caller").removeprefix("spiffe://"))
    admin = snapshot.Operation(paths=(snapshot.ValueMatch("prefix", "/admin"),))
    return (
        snapshot.Policy("default/no-admin", "DENY", (snapshot.Rule(operations=(admin,)),)),
        snapshot.Policy("default/callers", "ALLOW", (snapshot.Rule((snapshot.Source((caller,)),)),)),
    )


async def make_plane(app_port: int) -> tuple[DataPlane, int]:
    """A plane that serves; the port on which the measured workload calls out."""
    plane = DataPlane(PlaneConfig("bench-0", NODE, TRUST_DOMAIN), TlsWhereNamed())
    await plane.start()
    authority = Authority.create_root(TRUST_DOMAIN, time.time())
    plane.set_bundles({TRUST_DOMAIN: authority.bundle()})
    caller, callee = workload("caller", free_port()), workload("guarded", app_port, policies())
    for one in (caller, callee):
        key = f"workload.default.{one.name}"
        plane.apply(key, one)
        plane.set_identity(key, _svid(authority.create_intermediate(time.time()), one.service_account))
    for service, endpoints in (reviews(app_port), guarded(plane.inbound_port)):
        plane.apply(snapshot.key_for("service", service.host), service)
        plane.apply(snapshot.key_for("endpoints", service.host), endpoints)
    return plane, caller.outbound_port


def _svid(authority: Authority, account: str) -> Svid:
    key = new_key()
    spiffe_id = for_workload(TRUST_DOMAIN, "default", account)
    return Svid.from_der(authority.issue(csr(key), spiffe_id, 3600, time.time()), key)


def totals(series: Sequence[Series]) -> dict[str, int]:
    """What telemetry counted: requests answered by ``reviews``, and denials by the policy."""
    served = [one for one in series if one.edge.destination_service.startswith("reviews.")]
    denied = [one for one in series if "UAEX" in one.edge.flags and one.edge.reporter == "destination"]
    return {
        "served": sum(one.requests for one in served if one.edge.code == 200),
        "denied": sum(one.requests for one in denied if one.edge.code == 403),
    }


async def serve(app_port: int) -> None:
    """Serve, and answer questions until standard input ends."""
    plane, port = await make_plane(app_port)
    credentials = base64.b64encode(f"caller:{TOKEN}".encode()).decode()
    print(json.dumps({"port": port, "authorization": f"Basic {credentials}"}), flush=True)
    questions = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(questions), sys.stdin)
    while (await questions.readline()).strip() == b"totals":
        print(json.dumps(totals(plane.series.totals())), flush=True)
    await plane.stop()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
