"""Which version of HTTP goes to a destination."""

from __future__ import annotations

import pytest

from ray_mesh.proxy.cluster import Destination
from ray_mesh.snapshot import ConnectionLimits, Endpoint, Port, Service, TrafficPolicy

UPGRADE = ConnectionLimits(h2_upgrade="UPGRADE")
DO_NOT = ConnectionLimits(h2_upgrade="DO_NOT_UPGRADE")
CLIENTS = ConnectionLimits(uses_client_protocol=True)
PORTS = (
    Port(80, "http", "http"),
    Port(81, "x", "auto"),
    Port(82, "h2", "http2"),
    Port(83, "grpc", "grpc"),
)
MESH = Endpoint("workload.a.b", "127.0.0.1", 1, "b.a.workload.mesh", "spiffe://m/ns/a/sa/b", (), "n1")
OUTSIDE = Endpoint("", "127.0.0.1", 2, "", "", (), "", transport="plaintext")


def speaks(port: int, limits: ConnectionLimits | None, *endpoints: Endpoint) -> str:
    destination = Destination("b.a.svc.cluster.local")
    traffic = TrafficPolicy("DestinationRule a/b", limits) if limits is not None else None
    destination.set_service(
        Service(destination.host, "a", "b", PORTS, (), (), plaintext=True, traffic=traffic), 0.0
    )
    destination.set_endpoints(endpoints, 0.0)
    cluster = destination.cluster("", 0.0, port)
    assert cluster is not None
    return cluster.speaks


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (None, ["", "", "http2", "http2", ""]),
        (UPGRADE, ["http2", "http2", "http2", "http2", "http2"]),
        (DO_NOT, ["http1", "", "http2", "http2", ""]),
        (CLIENTS, ["", "", "", "", ""]),
    ],
)
def test_towards_proxies(limits: ConnectionLimits | None, expected: list[str]) -> None:
    assert [speaks(port, limits, MESH) for port in (80, 81, 82, 83, 99)] == expected


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (None, ["http1", "", "http2", "http2"]),
        (UPGRADE, ["http2", "http2", "http2", "http2"]),
        (CLIENTS, ["", "", "", ""]),
    ],
)
def test_towards_what_has_no_proxy(limits: ConnectionLimits | None, expected: list[str]) -> None:
    for endpoints in ((OUTSIDE,), (MESH, OUTSIDE)):
        assert [speaks(port, limits, *endpoints) for port in (80, 81, 82, 83)] == expected


def test_an_endpoint_without_proxy_that_comes_later_counts() -> None:
    destination = Destination("b.a.svc.cluster.local")
    destination.set_service(Service(destination.host, "a", "b", PORTS, (), (), plaintext=True), 0.0)
    destination.set_endpoints((MESH,), 0.0)
    cluster = destination.cluster("", 0.0, 80)
    assert cluster is not None
    found = [cluster.speaks]
    for endpoints in ((MESH, OUTSIDE), (MESH,)):
        destination.set_endpoints(endpoints, 0.0)
        found.append(cluster.speaks)
    assert found == ["", "http1", ""]
