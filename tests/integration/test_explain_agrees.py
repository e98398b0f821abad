"""Explaining says what real proxies do: the same documents, the same requests, both compared."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from proxy_mesh import TOKEN, Answer, Client, Mesh, fetch, free_port, request_bytes, running_mesh, until

from ray_mesh import snapshot
from ray_mesh.compile import LiveWorkload, World, compile_endpoints, compile_key, split_key, stored_keys
from ray_mesh.explain.answer import Explanation
from ray_mesh.explain.explaining import explain
from ray_mesh.explain.question import Caller, ask
from ray_mesh.proxy.plane import DataPlane
from ray_mesh.resources import Document, WorkloadSpec, load

BOOKINFO = Path(__file__).parents[2] / "configs" / "bookinfo"
TOKEN_SHA256 = hashlib.sha256(TOKEN.encode()).hexdigest()
WEB, EDGE = Caller(workload="default/productpage-v1"), Caller(gateway="default/bookinfo-gateway")
RATINGS = Caller(workload="default/reviews-v1")
NETWORKING = "apiVersion: networking.istio.io/v1\nkind"
SECURITY = "apiVersion: security.istio.io/v1\nkind"


@dataclass
class Site:
    """Bookinfo on two planes. ``ports`` are outbound ports by workload, ``edge`` is the gateway's."""

    mesh: Mesh
    workloads: str
    edge: int
    world: World = field(default_factory=lambda: World({}))

    def apply(self, text: str) -> None:
        """Put documents into force instead of those before."""
        documents: Iterable[Document] = load(self.workloads + text, "bookinfo.yaml")
        before, self.world = self.world, World({one.key: one for one in documents})
        live = self.live()
        for stored in sorted(stored_keys(before) | stored_keys(self.world), key=_order):
            node, key = split_key(stored)
            resource = (
                compile_endpoints(self.world, key, live)
                if key.startswith("endpoints.")
                else compile_key(self.world, stored)
            )
            for name, plane in self.mesh.planes.items():
                if name == node or not node:
                    plane.apply(key, snapshot.decode(key, snapshot.encode(resource)) if resource else None)

    def live(self) -> list[LiveWorkload]:
        """Every workload that listens, on its node's port."""
        found = []
        for one in self.world.find("kind", "Workload"):
            node = one.read(WorkloadSpec).node
            found.append(LiveWorkload(one.key, node, "127.0.0.1", self.mesh.planes[node].inbound_port))
        return found

    def live_on(self, node: str) -> list[LiveWorkload]:
        """Those of one node."""
        return [one for one in self.live() if one.node == node]

    def explain(self, caller: Caller, method: str, url: str, headers: dict[str, str]) -> Explanation:
        """What is said of a request."""
        question = ask(caller, url, method, list(headers.items()), client_ip="127.0.0.1")
        return explain(self.world, question, live=self.live())

    async def send(self, caller: Caller, method: str, url: str, headers: dict[str, str]) -> Answer:
        """What the proxies do with it."""
        authority, _, path = url.removeprefix("http://").partition("/")
        fields = {name.replace("-", "_"): value for name, value in headers.items()}
        if caller.gateway:
            return await fetch(self.edge, f"/{path}", authority, method, b"", "", **fields)
        name = caller.workload.rpartition("/")[2]
        workload = self.world.documents[f"workload.default.{name}"].read(WorkloadSpec)
        return await fetch(workload.outbound_port, f"/{path}", authority, method, b"", TOKEN, **fields)


def _order(stored: str) -> tuple[int, str]:
    """Dependencies first."""
    kinds = ["mesh", "workload", "node", "endpoints", "service", "gateway"]
    return kinds.index(snapshot.kind_of(split_key(stored)[1])), stored


def _workload(app: str, version: str, node: str, port: int, gateway: str = "") -> str:
    labels = f"app: {app}, version: {version}" if not gateway else "istio: ingressgateway"
    return f"""
apiVersion: mesh.ray.io/v1
kind: Workload
metadata: {{name: {app}-{version}, labels: {{{labels}}}}}
spec: {{serviceAccount: bookinfo-{app}, node: {node}, port: {port}, outboundPort: {free_port()},
  tokenSha256: '{TOKEN_SHA256}'{gateway}}}
---
"""


def _all_ready(site: Site, plane: DataPlane) -> bool:
    here = [one.key for one in site.live_on(plane.config.node)]
    return set(here) <= set(plane.ready())


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """Everything of Bookinfo runs; documents come later."""
    async with running_mesh() as mesh:
        text, edge = "", free_port()
        for app, version in (("reviews", "v1"), ("reviews", "v2"), ("reviews", "v3"), ("ratings", "v1")):
            text += _workload(app, version, "two", (await mesh.app(f"{app}-{version}")).port)
        text += _workload("productpage", "v1", "one", (await mesh.app("productpage-v1")).port)
        text += _workload("edge", "v1", "one", 0, f", gatewayPorts: {{'8080': {edge}}}")
        running = Site(mesh, text, edge)
        running.apply((BOOKINFO / "services.yaml").read_text())
        for plane in mesh.planes.values():
            plane.on_unknown_host = plane.unknown
        for one in running.world.find("kind", "Workload"):
            spec = one.read(WorkloadSpec)
            mesh.planes[spec.node].set_identity(one.key, mesh.svid(spec.service_account))
        for plane in mesh.planes.values():
            await until(functools.partial(_all_ready, running, plane), "all workloads are ready")
        yield running


def agree(told: Explanation, answer: Answer) -> None:
    """An answer is one that the explanation foresees."""
    verdict = told.verdict
    if verdict.outcome in ("refused", "answered"):
        assert answer.status == verdict.status, (told, answer)
        assert (answer.field("x-mesh-flag") or "").replace("-", "") == verdict.flag
        if verdict.outcome == "refused":
            said = answer.json()
            assert said["error"] == verdict.reason
            assert said.get("message", verdict.message) == verdict.message
        return
    possible = {
        one for share in told.shares if share.verdict.outcome == "forwarded" for one in share.endpoints
    }
    if answer.status == 200:
        assert f"default/{answer.json()['app']}" in possible
        return
    refused = [share.verdict for share in told.shares if share.verdict.outcome != "forwarded"]
    assert answer.status in {one.status for one in refused}


def files(*names: str) -> str:
    return "\n---\n".join((BOOKINFO / f"{name}.yaml").read_text() for name in ("services", *names))


def routes(http: str, host: str = "reviews") -> str:
    head = f"---\n{NETWORKING}: VirtualService\nmetadata: {{name: {host}}}\nspec:\n  hosts: [{host}]\n  http:"
    return head + http.replace("\n", "\n  ") + "\n"


def policy(name: str, spec: str) -> str:
    return f"---\n{SECURITY}: AuthorizationPolicy\nmetadata: {{name: {name}}}\nspec: {spec}\n"


JASON = {"end-user": "jason"}
REVIEWS, V1 = "http://reviews:9080/reviews/0", "route: [{destination: {host: reviews, subset: v1}}]"
MANY = f"""
- {{match: [{{uri: {{prefix: /old}}}}], rewrite: {{uri: /new}}, {V1}}}
- {{match: [{{uri: {{exact: /gone}}}}], directResponse: {{status: 410}}}}
- {{match: [{{uri: {{exact: /moved}}}}], redirect: {{uri: /here}}}}
- {{match: [{{queryParams: {{v: {{exact: '9'}}}}}}], route: [{{destination: {{host: reviews, subset: v9}}}}]}}
- {{match: [{{method: {{exact: DELETE}}}}], route: [{{destination: {{host: nowhere}}}}]}}
- {{match: [{{uri: {{prefix: /reviews}}, withoutHeaders: {{x-a: {{}}}}}}], {V1}}}
"""
CASES: list[tuple[str, list[tuple[Caller, str, str, dict[str, str]]]]] = [
    (
        files(),
        [
            (WEB, "GET", REVIEWS, {}),
            (WEB, "GET", "http://nosuch/", {}),
            (WEB, "GET", "http://reviews:1/", {}),
        ],
    ),
    (
        files("destination-rules", "reviews-jason-v2-v3", "gateway"),
        [
            (WEB, "GET", REVIEWS, JASON),
            (WEB, "GET", "http://reviews.default.svc.cluster.local:9080/", {"end-user": "bob"}),
            (EDGE, "GET", "http://bookinfo.com/productpage", {}),
            (EDGE, "GET", "http://bookinfo.com/elsewhere", {}),
        ],
    ),
    (files("destination-rules", "reviews-80-20"), [(WEB, "GET", REVIEWS, {})] * 5),
    (
        files("destination-rules", "ratings-abort"),
        [
            (RATINGS, "GET", "http://ratings:9080/ratings/0", JASON),
            (RATINGS, "GET", "http://ratings:9080/", {}),
        ],
    ),
    (
        files("destination-rules", "all-v1", "authorization", "gateway"),
        [
            (WEB, "GET", REVIEWS, {}),
            (WEB, "POST", REVIEWS, {}),
            (RATINGS, "GET", REVIEWS, {}),
            (RATINGS, "GET", "http://ratings:9080/", {}),
            (EDGE, "GET", "http://bookinfo.com/productpage", {}),
        ],
    ),
    (
        files("deny-ratings"),
        [(RATINGS, "GET", "http://ratings:9080/", {}), (WEB, "GET", "http://ratings:9080/", {})],
    ),
    (
        files("destination-rules")
        + routes(MANY)
        + policy("new", "{action: DENY, rules: [{to: [{operation: {paths: ['/new/secret*']}}]}]}"),
        [
            (WEB, "GET", "http://reviews:9080/old/1", {}),
            (WEB, "GET", "http://reviews:9080/old/secret", {}),
            (WEB, "GET", "http://reviews:9080/new/secret", {}),
            (WEB, "GET", "http://reviews:9080/gone", {}),
            (WEB, "GET", "http://reviews:9080/moved?x=1", {}),
            (WEB, "GET", "http://reviews:9080/x?v=9", {}),
            (WEB, "DELETE", "http://reviews:9080/x", {}),
            (WEB, "GET", "http://reviews:9080/reviews/a/../0", {}),
            (WEB, "GET", REVIEWS, {"x-a": "1"}),
            (WEB, "GET", "http://reviews:9080/%zz", {}),
        ],
    ),
    (
        files("destination-rules", "reviews-80-20")
        + policy("v2", "{selector: {matchLabels: {version: v2}}, action: ALLOW}"),
        [(WEB, "GET", REVIEWS, {})] * 5,
    ),
]


API = f"""---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: bookinfo-gateway}}
spec:
  gatewayClassName: ray-mesh
  listeners: [{{name: web, port: 8080, protocol: HTTP, hostname: '*.info'}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: api}}
spec:
  parentRefs: [{{name: bookinfo-gateway}}]
  hostnames: [book.info]
  rules:
  - matches: [{{path: {{type: PathPrefix, value: /reviews}}, method: GET}}]
    filters:
    - type: URLRewrite
      urlRewrite: {{path: {{type: ReplacePrefixMatch, replacePrefixMatch: /new}}}}
    backendRefs: [{{name: reviews, port: 9080}}]
  - matches: [{{path: {{type: PathPrefix, value: /lost}}}}]
    backendRefs: [{{name: nowhere, port: 80}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: inside}}
spec:
  parentRefs: [{{group: '', kind: Service, name: ratings}}]
  rules:
  - matches: [{{path: {{type: Exact, value: /only}}}}]
    backendRefs: [{{name: reviews, port: 9080}}]
---
{SECURITY}: AuthorizationPolicy
metadata: {{name: new}}
spec: {{action: DENY, rules: [{{to: [{{operation: {{paths: [/new/secret]}}}}]}}]}}
"""
CASES.append(
    (
        files() + API,
        [
            (EDGE, "GET", "http://book.info/reviews/1", {}),
            (EDGE, "GET", "http://book.info/reviews/secret", {}),
            (EDGE, "POST", "http://book.info/reviews/1", {}),
            (EDGE, "GET", "http://book.info/lost", {}),
            (EDGE, "GET", "http://other.info/reviews/1", {}),
            (EDGE, "GET", "http://book.com/reviews/1", {}),
            (WEB, "GET", "http://ratings:9080/only", {}),
            (WEB, "GET", "http://ratings:9080/other", {}),
        ],
    )
)


SIDECAR = f"""---
{NETWORKING}: Sidecar
metadata: {{name: web}}
spec:
  workloadSelector: {{labels: {{app: productpage}}}}
  egress: [{{hosts: ['./reviews.default.svc.cluster.local']}}]
---
{NETWORKING}: VirtualService
metadata: {{name: own}}
spec:
  hosts: [details]
  exportTo: [prod]
  http: [{{directResponse: {{status: 410}}}}]
"""
CASES.append(
    (
        files() + SIDECAR,
        [
            (WEB, "GET", REVIEWS, {}),
            (WEB, "GET", "http://ratings:9080/", {}),
            (RATINGS, "GET", "http://ratings:9080/", {}),
            (RATINGS, "GET", "http://details:9080/", {}),
        ],
    )
)


@pytest.mark.parametrize("number", range(len(CASES)))
async def test_the_proxies_do_what_is_explained(site: Site, number: int) -> None:
    text, requests = CASES[number]
    site.apply(text)
    for caller, method, url, headers in requests:
        agree(site.explain(caller, method, url, headers), await site.send(caller, method, url, headers))


async def test_a_hash_key_picks_the_endpoint_that_is_named(site: Site) -> None:
    site.apply(
        files()
        + f"""---
{NETWORKING}: DestinationRule
metadata: {{name: reviews}}
spec: {{host: reviews, trafficPolicy: {{loadBalancer: {{consistentHash: {{httpHeaderName: x-user}}}}}}}}
"""
    )
    for user in ("ann", "bob", "eve", "joe"):
        told = site.explain(WEB, "GET", REVIEWS, {"x-user": user})
        step = next(one for one in told.shares[0].steps if one.stage == "endpoints")
        answer = await site.send(WEB, "GET", REVIEWS, {"x-user": user})
        assert step.notes[0].says.endswith(f"this request goes to default/{answer.json()['app']}")


async def test_connections_too(site: Site) -> None:
    mysql = """
---
apiVersion: v1
kind: Service
metadata: {name: mysql}
spec: {selector: {app: ratings}, ports: [{name: tcp, port: 3306}]}
"""
    for more, caller in (("", WEB), (policy("get", "{rules: [{to: [{operation: {methods: [GET]}}]}]}"), WEB)):
        site.apply(files() + mysql + more)
        told = explain(site.world, ask(caller, "mysql:3306", "CONNECT"), live=site.live())
        port = site.world.documents["workload.default.productpage-v1"].read(WorkloadSpec).outbound_port
        one = await Client.connect(port)
        await one.send(request_bytes("CONNECT", "mysql:3306", "mysql:3306"))
        answer = await one.answer("HEAD" if told.verdict.outcome == "forwarded" else "CONNECT")
        assert answer.status == (told.verdict.status or 200)
        assert (answer.field("x-mesh-flag") or "") == told.verdict.flag
        await one.close()
