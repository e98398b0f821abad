"""What Kubernetes' own objects tell about a mesh: workloads by their labels, and secrets.

Files for Istio have them beside its documents. Nothing of them is configuration here; analysis reads them so
that a selector or a credential is not called missing when what it means stands in the same files.
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from ray_mesh.analyze.subject import Subject, subject_of, texts
from ray_mesh.compile.callee import selector_of
from ray_mesh.compile.world import World
from ray_mesh.resources import Document, ServiceSpec, WorkloadSpec
from ray_mesh.resources.mesh import ROOT_NAMESPACE
from ray_mesh.resources.reading import Reading
from ray_mesh.resources.source import Positions

TEMPLATED = frozenset({"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "Rollout"})
"""Kinds whose pods have the labels of a template in them."""
READ = TEMPLATED | {"Pod", "Secret", "Node"}

_DEFAULT_INGRESS = {"istio": "ingressgateway", "app": "istio-ingressgateway"}
_DEFAULT_PORTS = (80, 443, 8080, 15020, 15021, 15029, 15030, 15031, 15032, 15443, 31400)
"""The ports of Istio's own ingress, and the one that `ray-mesh up --ingress` is documented with."""
_TOPOLOGY = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")
"""Labels of a Node that its pods have too, where subsets ask for them; an empty one counts as none."""
_PAIRS = (("tls.crt", "tls.key"), ("cert", "key"))


def workloads_of(world: World, readings: Iterable[Reading], namespace: str) -> list[Document]:
    """A Workload for each pod that there may be, and for the ingress that every mesh has. Of pods with one
    name each counts, in whatever order they are."""
    found = [_workload(where, "ingressgateway", _DEFAULT_INGRESS, _DEFAULT_PORTS) for where in _INGRESS]
    pairs = [(one, subject_of(one, namespace)) for one in readings]
    nodes = _nodes(subject for _, subject in pairs)
    taken: Counter[tuple[str, str]] = Counter()
    for reading, subject in pairs:
        labels = _pod_labels(reading.value, subject, nodes)
        if labels is not None:
            name = subject.name if subject.kind == "Pod" else f"{subject.name} ({subject.kind})"
            taken[subject.namespace, name] += 1
            if (number := taken[subject.namespace, name]) > 1:
                name += f" #{number}"
            found.append(_workload(subject.namespace, name, labels, ()))
    return [_with_ports(world, one) for one in found]


_INGRESS = (ROOT_NAMESPACE, "istio-system")


def _pod_labels(
    value: Mapping[str, Any], subject: Subject, nodes: Mapping[str, Mapping[str, str]]
) -> dict[str, str] | None:
    if subject.kind == "Pod":
        spec = value.get("spec")
        node = spec.get("nodeName") if isinstance(spec, dict) else None
        return {**subject.labels, **_node_labels(node, nodes)}
    if subject.kind not in TEMPLATED:
        return None
    found: Any = value
    for step in ("spec", "template", "metadata", "labels"):
        found = found.get(step) if isinstance(found, dict) else None
    return texts(found)


def _nodes(subjects: Iterable[Subject]) -> dict[str, Mapping[str, str]]:
    nodes = [one for one in subjects if one.kind == "Node"]
    return {one.name: one.labels for one in sorted(nodes, key=lambda one: sorted(one.labels.items()))}


def _node_labels(node: object, nodes: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    if not isinstance(node, str) or node not in nodes:
        return {}
    places = {name: nodes[node][name] for name in _TOPOLOGY if nodes[node].get(name)}
    return {**places, "kubernetes.io/hostname": node}


def _workload(namespace: str, name: str, labels: Mapping[str, str], ports: Iterable[int]) -> Document:
    spec = WorkloadSpec.model_construct(
        service_account="default",
        node="unknown",
        outbound_port=1,
        token_sha256="0" * 64,
        gateway_ports={str(port): port for port in ports},
    )
    return Document(
        kind="Workload",
        api_version="mesh.ray.io/v1",
        namespace=namespace,
        name=name,
        labels=dict(labels),
        annotations={},
        spec=spec,
        json="",
        positions=Positions(name),
    )


def _with_ports(world: World, workload: Document) -> Document:
    """The workload with the ports of the Services that select it: there its Gateways can be reached."""
    ports = dict(workload.read(WorkloadSpec).gateway_ports)
    for service in world.picking("service", workload.namespace, workload):
        if selector_of(service):
            ports |= {str(one.port): one.port for one in service.read(ServiceSpec).ports}
    if ports == workload.read(WorkloadSpec).gateway_ports:
        return workload
    return _workload(workload.namespace, workload.name, workload.labels, ports.values())


def credentials_of(readings: Iterable[Reading], namespace: str, now: float) -> dict[str, str]:
    """The Secrets by ``namespace/name``, and what is wrong with each as the certificate of a gateway."""
    found: dict[str, str] = {}
    for reading in readings:
        subject = subject_of(reading, namespace)
        if subject.kind == "Secret":
            found[f"{subject.namespace}/{subject.name}"] = _credential_problem(reading.value, now)
    return found


def _credential_problem(value: Mapping[str, Any], now: float) -> str:
    plain = {name: text.encode() for name, text in texts(value.get("stringData")).items()}
    encoded = texts(value.get("data"))
    for certificate_name, key_name in _PAIRS:
        if not {certificate_name, key_name} & (encoded.keys() | plain.keys()):
            continue
        try:
            certificate = _entry(certificate_name, encoded, plain)
            key = _entry(key_name, encoded, plain)
            return _pair_problem(certificate, key, now)
        except KeyError as error:
            return f"it has no {error.args[0]}"
        except binascii.Error as error:
            return f"its data is not base64: {error}"
    return "it has no tls.crt and tls.key"


def _entry(name: str, encoded: Mapping[str, str], plain: Mapping[str, bytes]) -> bytes:
    return plain[name] if name in plain else base64.b64decode(encoded[name])


def _pair_problem(certificate: bytes, key: bytes, now: float) -> str:
    try:
        leaf = x509.load_pem_x509_certificates(certificate)[0]
        private = serialization.load_pem_private_key(key, password=None)
    except (ValueError, TypeError, IndexError):
        return "it has no certificate and private key in PEM"
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if leaf.public_key().public_bytes(encoding, form) != private.public_key().public_bytes(encoding, form):
        return "its key is not that of its certificate"
    if datetime.fromtimestamp(now, UTC) > leaf.not_valid_after_utc:
        return f"its certificate expired on {leaf.not_valid_after_utc.date()}"
    return ""
