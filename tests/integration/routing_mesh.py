"""A mesh whose routes come the whole way from documents: read, admitted, compiled, encoded, applied."""

from __future__ import annotations

from typing import Any

from proxy_mesh import App, Client, Handler, Mesh, fetch, free_port, host_of, request_bytes

from ray_mesh import snapshot
from ray_mesh.compile import World, admit, compile_key
from ray_mesh.resources import Document, load

__all__ = ["App", "Client", "Mesh", "apply_routes", "callee", "client", "fetch", "host_of", "request_bytes"]

_SERVICE = """
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec: {{selector: {{app: {name}}}, ports: [{{port: 80, name: http}}]}}
---
"""
_ROUTES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {host}, namespace: default}}
spec: {{hosts: [{host}], http: {http}}}
---
"""


async def client(mesh: Mesh, **changes: Any) -> int:
    """The outbound port of ``client`` on node one."""
    return await mesh.workload("client", free_port(), node="one", **changes)


async def callee(mesh: Mesh, name: str = "reviews", handler: Handler | None = None) -> App:
    """An application on node two behind the service of its name."""
    app = await mesh.app(name, handler)
    await mesh.workload(name, app.port, services=(host_of(name),))
    mesh.service(name, [mesh.endpoint(name)])
    return app


def world(services: tuple[str, ...], more: str) -> World:
    """The services and further documents, which admission has to accept."""
    text = "".join(_SERVICE.format(name=name) for name in services) + more
    documents: list[Document] = load(text, "routes.yaml")
    findings = [one for one in admit(World({}), documents) if one.severity == "error"]
    assert not findings, findings
    return World({one.key: one for one in documents})


def apply_routes(mesh: Mesh, http: str, *others: str, host: str = "reviews", more: str = "") -> None:
    """Route ``host`` by these rules; ``others`` are services that the rules may name."""
    made = world((host, *others), _ROUTES.format(host=host, http=http) + more)
    key = snapshot.key_for("service", host_of(host))
    compiled = compile_key(made, key)
    assert compiled is not None
    for plane in mesh.planes.values():
        plane.apply(key, snapshot.decode(key, snapshot.encode(compiled)))


def apply_gateway(mesh: Mesh, documents: str, *services: str) -> None:
    """What ``edge`` on node one serves by these Gateways and VirtualServices (Gateway port 80)."""
    workload = """
apiVersion: mesh.ray.io/v1
kind: Workload
metadata: {name: edge, namespace: default, labels: {app: edge}}
spec:
  {serviceAccount: edge, node: one, port: 9000, outboundPort: 9001, gatewayPorts: {'80': 1}, tokenSha256: H}
---
""".replace("tokenSha256: H", "tokenSha256: '" + "ab" * 32 + "'")
    text = "".join(_SERVICE.format(name=name) for name in services) + documents
    made = World({one.key: one for one in load(text + workload, "gateway.yaml")})
    compiled = compile_key(made, "one.gateway.default.edge")
    assert compiled is not None
    key = "gateway.default.edge"
    mesh.planes["one"].apply(key, snapshot.decode(key, snapshot.encode(compiled)))
