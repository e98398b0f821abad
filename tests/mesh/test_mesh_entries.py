"""ServiceEntry and WorkloadEntry on a running mesh, with Istio's own file for a database on a machine."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from mesh_site import Site, eventually

from ray_mesh.errors import ConfigError

CONFORMANCE = Path(
    os.environ.get("RAY_MESH_CONFORMANCE", Path(__file__).parents[3] / "shared" / "conformance")
)
FILES = CONFORMANCE / "bookinfo"
API = "api.payments.example"


class Plain(ThreadingHTTPServer):
    """A program that knows nothing of the mesh; it keeps the headers of every request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.heads: list[dict[str, str]] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Plain

    def do_GET(self) -> None:
        self.server.heads.append({name.lower(): value for name, value in self.headers.items()})
        body = json.dumps({"id": 0, "ratings": {"Reviewer1": 1, "Reviewer2": 1}}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def plain() -> Iterator[Plain]:
    server = Plain()
    thread = threading.Thread(target=server.serve_forever, name="plain")
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def clean(site: Site) -> Iterator[Site]:
    before = {(one.kind, one.namespace, one.name) for one in site.mesh.list()}
    yield site
    for kind in (
        "Sidecar",
        "VirtualService",
        "DestinationRule",
        "ServiceEntry",
        "WorkloadEntry",
        "WorkloadBinding",
    ):
        for one in site.mesh.list(kind):
            if (one.kind, one.namespace, one.name) not in before:
                site.remove(one.kind, one.name, one.namespace)


def outside(port: int) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: payments}}
spec:
  hosts: [{API}]
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {port}}}]
  resolution: DNS
  endpoints: [{{address: localhost}}]
"""


def machine(port: int) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: mysql-vm}}
spec:
  address: 127.0.0.1
  ports: {{http: {port}, http-app: {port}}}
  labels: {{app: ratings, version: v2-mysql-vm}}
"""


DISABLE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: ratings-on-a-machine}
spec: {host: ratings, trafficPolicy: {tls: {mode: DISABLE}}}
"""
SIDECAR = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: narrow}
spec:
  workloadSelector: {labels: {app: payer}}
  egress: [{hosts: ["./reviews.default.svc.cluster.local"]}]
"""
BINDING = """
apiVersion: mesh.ray.io/v1
kind: WorkloadBinding
metadata: {name: payer}
spec: {serviceAccount: payer, nodes: ["*"]}
"""


def call(proxy: str, url: str) -> tuple[int, str]:
    try:
        with build_opener(ProxyHandler({"http": proxy})).open(Request(url), timeout=20.0) as response:
            return response.status, response.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_workload_calls_a_host_outside_and_the_graph_says_it_is_not_mutual_tls(
    clean: Site, plain: Plain
) -> None:
    clean.apply(BINDING)
    with clean.mesh.attach("payer", "v1", 0, service_account="payer") as payer:
        assert call(payer.http_proxy, f"http://{API}/")[0] == 502, "nobody named it yet"
        clean.apply(outside(plain.port))
        eventually(lambda: call(payer.http_proxy, f"http://{API}/")[0] == 200)
        (head,) = plain.heads
        assert head["host"] == API
        assert not [name for name in head if name.startswith(("x-mesh", "proxy-", "x-forwarded-client"))]
        token = payer.http_proxy.split(":")[2].split("@")[0]
        assert not any(token in value for value in head.values())
        (edge,) = eventually(
            lambda: [
                one for one in clean.mesh.graph(20.0).edges if one.service == API and one.codes.get("200")
            ]
        )
        assert (edge.source, edge.destination, edge.mtls) == ("default/payer-v1", "", 0.0)
        clean.apply(SIDECAR)
        eventually(lambda: "Sidecar default/narrow" in call(payer.http_proxy, f"http://{API}/")[1])
        clean.remove("Sidecar", "narrow")
        eventually(lambda: call(payer.http_proxy, f"http://{API}/")[0] == 200)
        clean.remove("ServiceEntry", "payments")
        assert call(payer.http_proxy, f"http://{API}/")[0] == 502


def test_what_would_weaken_the_mesh_is_refused(clean: Site) -> None:
    proxy = clean.mesh.proxies()[0]
    for document, code in (
        (outside(proxy.inbound_port), "RM0112"),
        (outside(9999).replace(API, "reviews"), "RM0111"),
        (DISABLE, "RM0114"),
    ):
        with pytest.raises(ConfigError, match=code):
            clean.apply(document)
    with pytest.raises(ConfigError, match="link-local"):
        clean.apply(outside(80).replace("localhost", "169.254.169.254"))


@pytest.mark.skipif(not FILES.is_dir(), reason=f"no conformance files in {CONFORMANCE}")
def test_istios_file_for_ratings_on_a_machine(clean: Site, plain: Plain) -> None:
    clean.apply((FILES / "destination-rule-all.yaml").read_text())
    clean.apply(machine(plain.port))
    clean.apply((FILES / "virtual-service-ratings-mysql-vm.yaml").read_text())
    assert "Ratings service is currently unavailable" in clean.page(), "it has no proxy, nothing allows HTTP"
    assert plain.heads == []
    clean.apply(DISABLE)
    assert "Ratings service is currently unavailable" not in clean.page()
    assert plain.heads
    (edge,) = eventually(
        lambda: [
            one
            for one in clean.mesh.graph(20.0).edges
            if one.destination == "default/mysql-vm" and one.codes.get("200")
        ]
    )
    assert (edge.service.split(".")[0], edge.destination_version, edge.mtls) == (
        "ratings",
        "v2-mysql-vm",
        0.0,
    )
