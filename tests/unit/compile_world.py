"""A small mesh for the tests of compiling: Bookinfo's services and workloads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ray_mesh.compile import World
from ray_mesh.resources import Document, load
from ray_mesh.resources.kinds import KINDS


def document(kind: str, name: str, spec: str, *, labels: str = "{}", admitted_at: float = 0.0) -> Document:
    """One document; ``name`` may be ``namespace/name``."""
    namespace, _, plain = name.rpartition("/")
    text = (
        f"apiVersion: {KINDS[kind].api_versions[0]}\nkind: {kind.partition('.')[0]}\n"
        f"metadata: {{name: {plain}, namespace: {namespace or 'default'}, labels: {labels}}}\nspec: {spec}\n"
    )
    return at(load(text, f"{kind}.yaml"), admitted_at)[0]


def at(documents: Iterable[Document], admitted_at: float) -> list[Document]:
    """The documents as if admitted at a time."""
    return [replace(one, admitted_at=admitted_at) for one in documents]


def service(name: str, *ports: int) -> Document:
    listed = ", ".join(f"{{name: http-{port}, port: {port}}}" for port in ports or (9080,))
    app = name.rpartition("/")[2]
    return document("Service", name, f"{{selector: {{app: {app}}}, ports: [{listed}]}}")


def workload(
    app: str, version: str, *, node: str = "n1", namespace: str = "default", **more: str
) -> Document:
    said = "".join(f", {name}: {value}" for name, value in more.items())
    spec = (
        f"{{serviceAccount: bookinfo-{app}, node: {node}, port: 9000, outboundPort: 9001, "
        f"tokenSha256: '{'ab' * 32}'{said}}}"
    )
    name = f"{namespace}/{app}-{version}"
    return document("Workload", name, spec, labels=f"{{app: {app}, version: {version}}}")


def ingress(
    name: str = "ingress", ports: str = "{'8080': 18080}", namespace: str = "mesh-system"
) -> Document:
    spec = (
        f"{{serviceAccount: ingressgateway, node: n1, port: 9000, outboundPort: 9002, "
        f"tokenSha256: '{'cd' * 32}', gatewayPorts: {ports}}}"
    )
    return document("Workload", f"{namespace}/{name}", spec, labels="{istio: ingressgateway}")


def binding(account: str, namespace: str = "default", nodes: str = "['*']") -> Document:
    spec = f"{{serviceAccount: {account}, nodes: {nodes}}}"
    return document("WorkloadBinding", f"{namespace}/{account}", spec)


def subsets(host: str, *versions: str, name: str = "", admitted_at: float = 0.0) -> Document:
    listed = ", ".join(f"{{name: {one}, labels: {{version: {one}}}}}" for one in versions)
    spec = f"{{host: {host}, subsets: [{listed}]}}"
    return document("DestinationRule", name or host, spec, admitted_at=admitted_at)


def routes(host: str, http: str, *, name: str = "", extra: str = "", admitted_at: float = 0.0) -> Document:
    spec = f"{{hosts: [{host}], http: {http}{extra}}}"
    return document("VirtualService", name or host, spec, admitted_at=admitted_at)


def gateway(name: str = "bookinfo-gateway", port: int = 8080, hosts: str = "['*']") -> Document:
    server = f"{{port: {{number: {port}, name: http, protocol: HTTP}}, hosts: {hosts}}}"
    return document("Gateway", name, f"{{selector: {{istio: ingressgateway}}, servers: [{server}]}}")


def to(host: str, subset: str = "", weight: int | None = None, port: int = 0) -> str:
    """One destination of a route."""
    parts = [f"host: {host}"] + [f"subset: {subset}"] * bool(subset)
    parts += [f"port: {{number: {port}}}"] * bool(port)
    share = "" if weight is None else f", weight: {weight}"
    return f"{{destination: {{{', '.join(parts)}}}{share}}}"


def world(*documents: Document) -> World:
    return World({one.key: one for one in documents})


def bookinfo() -> list[Document]:
    """Services, bindings, an ingress, and the workloads of Istio's sample without the databases."""
    apps = {"productpage": ["v1"], "details": ["v1", "v2"], "reviews": ["v1", "v2", "v3"], "ratings": ["v1"]}
    found = [binding("ingressgateway", "mesh-system"), ingress()]
    for app, versions in apps.items():
        found += [service(app), binding(f"bookinfo-{app}")]
        found += [workload(app, version) for version in versions]
    return found
