"""Attaching and detaching workloads: ports, a token, a document, and waiting until traffic can flow."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ray_mesh.bus import subjects
from ray_mesh.bus.client import Bus
from ray_mesh.bus.messages import ReserveReply, ReserveRequest, decode, encode
from ray_mesh.errors import ConfigError, MeshError, NotFound, PolicyDenied, Rejected, Unavailable
from ray_mesh.gateway.admission import Admission, key_of
from ray_mesh.gateway.changes import Changes
from ray_mesh.gateway.desired import DesiredState
from ray_mesh.gateway.view import MeshView, Progress
from ray_mesh.resources import Document, Manifest, Positions, WorkloadBindingSpec, from_manifest
from ray_mesh.security.join import SIDECAR_PREFIX
from ray_mesh.security.registrations import ANY_NODE, PROXY_PREFIX, ROOT_NAMESPACE

log = logging.getLogger(__name__)

OWN_API = "mesh.ray.io/v1"
LOOPBACK = "127.0.0.1"
HTTP_PORT = 80
PROTOCOLS = ("http", "http2", "grpc")
TOKEN_BYTES = 24
RESERVE_TIMEOUT_S = 3.0
READY_TIMEOUT_S = 30.0
DRAIN_S = 2.0


@dataclass(frozen=True, slots=True)
class Attach:
    """What a caller wants to attach. ``port`` 0 is a workload that only calls, such as an ingress.
    ``gateway_ports`` maps port numbers of Gateways to wanted ports (0: any free one); ``address`` is
    where the app listens, seen from its node, ``protocol`` (``PROTOCOLS``) what it speaks there, empty where
    its Services say that. ``probe`` is a readiness probe as in a WorkloadGroup; a command
    is run by a sidecar only, beside which it was named too."""

    service: str
    version: str
    port: int
    namespace: str
    name: str
    service_account: str
    labels: Mapping[str, str]
    node: str
    address: str = LOOPBACK
    protocol: str = ""
    gateway_ports: tuple[tuple[int, int], ...] = ()
    weight: int = 1
    locality: str = ""
    probe: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attached:
    """What the caller gets, once. ``http_proxy`` carries the token, of which only a hash is stored."""

    workload: str
    name: str
    node: str
    http_proxy: str
    outbound_port: int
    gateway_ports: dict[str, int]
    revision: int


class Workloads:
    """Registers workloads on nodes. ``changes`` is notified whenever ``view`` has news."""

    def __init__(
        self, admission: Admission, state: DesiredState, view: MeshView, changes: Changes, bus: Bus
    ) -> None:
        self._admission = admission
        self._state = state
        self._view = view
        self._changes = changes
        self._bus = bus

    async def attach(self, wanted: Attach, author: str) -> Attached:
        """Register (or replace) a workload and return when every live proxy of its node serves it.

        Raises:
            ConfigError: a name, label or port cannot be used.
            PolicyDenied: no WorkloadBinding lets the service account run on the node.
            Rejected: a proxy refuses the workload.
            Unavailable: the node has no live proxy, or it was not ready in time; nothing stays behind.
        """
        await self._admission.refresh()
        _check_probe(wanted)
        self._check_right(wanted)
        await self._check_node(wanted.node)
        ports = await self._reserve(wanted)
        token = secrets.token_urlsafe(TOKEN_BYTES)
        workload = _workload(wanted, ports, hashlib.sha256(token.encode()).hexdigest())
        outcome = await self._admission.write([workload], defaults=_services(wanted), author=author)
        await self._wait_ready(workload.key, wanted.node, outcome.revision, author)
        return Attached(
            workload=workload.key,
            name=wanted.name,
            node=wanted.node,
            http_proxy=f"http://{wanted.name}:{token}@{LOOPBACK}:{ports.outbound}",
            outbound_port=ports.outbound,
            gateway_ports={str(number): port for number, port in ports.gateway_ports},
            revision=outcome.revision,
        )

    async def detach(self, namespace: str, name: str, author: str) -> int:
        """Take a workload out, whatever refers to it: its process may be gone. Returns the revision.

        Its proxy lets it go only when every live proxy has taken it out of its endpoints, or after
        ``DRAIN_S``: until then calls that are on their way to it are answered.

        Raises:
            NotFound: there is no such workload.
        """
        key = key_of("Workload", namespace, name)
        await self._admission.refresh()
        if key not in self._state.records:
            raise NotFound(f"no workload {namespace}/{name} is attached")
        draining = _draining(self._state.records[key].document)
        outcome = await self._admission.write((draining,), author=author, analyzed=False)
        await self._changes.wait_until(
            lambda: self._view.is_decided(outcome.revision, time.monotonic()), DRAIN_S
        )
        return await self._remove(key, author)

    async def _remove(self, key: str, author: str) -> int:
        outcome = await self._admission.write((), deletions=(key,), author=author, analyzed=False)
        return outcome.revision

    def _check_right(self, wanted: Attach) -> None:
        namespace, account = wanted.namespace, wanted.service_account
        if namespace == ROOT_NAMESPACE and account.startswith(PROXY_PREFIX):
            raise PolicyDenied(f"nobody may attach as {namespace}/{account}: that is the identity of a proxy")
        if not any(_covers(document, wanted) for document in self._state.documents().values()):
            raise PolicyDenied(
                f"service account {namespace}/{account} may not run on node {wanted.node}: no WorkloadBinding"
                f" covers it. An admin can apply one in namespace {namespace} with serviceAccount {account}"
                f" and node {wanted.node} (or *)"
            )

    async def _check_node(self, node: str) -> None:
        """A view that has just started gives a node's proxies the time to be heard."""

        def is_known() -> bool:
            return node in self._view.nodes(time.monotonic())

        if not await self._changes.wait_until(is_known, RESERVE_TIMEOUT_S):
            nodes = ", ".join(self._view.nodes(time.monotonic())) or "none"
            raise Unavailable(f"node {node} has no live proxy; nodes with one: {nodes}")

    async def _reserve(self, wanted: Attach) -> ReserveReply:
        request = encode(ReserveRequest(0, wanted.gateway_ports))
        answer = await self._bus.request(subjects.reserve(wanted.node), request, timeout_s=RESERVE_TIMEOUT_S)
        reply = decode(ReserveReply, answer.data)
        if reply.error:
            raise Unavailable(f"node {wanted.node} cannot reserve ports: {reply.error}")
        return reply

    async def _wait_ready(self, key: str, node: str, revision: int, author: str) -> None:
        progress = Progress(False)

        def is_decided() -> bool:
            nonlocal progress
            progress = self._view.workload_progress(key, node, revision, time.monotonic())
            return progress.applied or bool(progress.rejected)

        await self._changes.wait_until(is_decided, READY_TIMEOUT_S)
        if progress.applied:
            return
        await self._give_up(key, author)
        if progress.rejected:
            raise Rejected("; ".join(progress.rejected))
        raise Unavailable(
            f"{key} was not ready on node {node} after {READY_TIMEOUT_S:g} s and was removed again;"
            f" waited for {'; '.join(progress.waiting_for)}"
        )

    async def _give_up(self, key: str, author: str) -> None:
        """Nobody else knows the token, so the registration is of no use any more."""
        try:
            await self._remove(key, author)
        except MeshError as error:
            log.warning("%s could not be removed again: %s", key, error)


def _check_probe(wanted: Attach) -> None:
    if "exec" in wanted.probe and not wanted.node.startswith(SIDECAR_PREFIX):
        raise ConfigError(
            "probe.exec: the proxies of the mesh's nodes run no commands, since whoever has the API's token"
            " could then run any on them; only a sidecar does (`ray-mesh sidecar --probe-command`). Use"
            " httpGet, tcpSocket or grpc"
        )


def _draining(document: Document) -> Document:
    manifest = json.loads(document.json)
    manifest["spec"]["draining"] = True
    return from_manifest(Manifest(manifest, Positions("detach")))


def _covers(document: Document, wanted: Attach) -> bool:
    if document.kind != "WorkloadBinding" or document.namespace != wanted.namespace:
        return False
    binding = document.read(WorkloadBindingSpec)
    return binding.service_account == wanted.service_account and (
        wanted.node in binding.nodes or ANY_NODE in binding.nodes
    )


def _workload(wanted: Attach, ports: ReserveReply, token_sha256: str) -> Document:
    labels = {"app": wanted.service, "version": wanted.version, **wanted.labels}
    spec: dict[str, Any] = {
        "serviceAccount": wanted.service_account,
        "node": wanted.node,
        "address": wanted.address,
        "outboundPort": ports.outbound,
        "tokenSha256": token_sha256,
    }
    if wanted.port:
        spec["port"] = wanted.port
    if wanted.protocol:
        spec["protocol"] = wanted.protocol
    if wanted.weight != 1:
        spec["weight"] = wanted.weight
    if wanted.locality:
        spec["locality"] = wanted.locality
    if wanted.probe:
        spec["probe"] = dict(wanted.probe)
    if ports.gateway_ports:
        spec["gatewayPorts"] = {str(number): port for number, port in ports.gateway_ports}
    metadata = {"name": wanted.name, "namespace": wanted.namespace, "labels": labels}
    return _document({"apiVersion": OWN_API, "kind": "Workload", "metadata": metadata, "spec": spec})


def _services(wanted: Attach) -> list[Document]:
    """The Service that an attached workload gets unless there is one; an ingress serves no calls."""
    if not wanted.port:
        return []
    spoken = wanted.protocol or "http"
    ports: list[dict[str, Any]] = [{"name": spoken, "port": HTTP_PORT}]
    if wanted.port != HTTP_PORT:
        ports.append({"name": f"{spoken}-app", "port": wanted.port})
    metadata = {"name": wanted.service, "namespace": wanted.namespace}
    spec = {"selector": {"app": wanted.service}, "ports": ports}
    return [_document({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})]


def _document(manifest: dict[str, Any]) -> Document:
    return from_manifest(Manifest(manifest, Positions("attach")))


def read_attach(body: Any) -> Attach:
    """An attach request from its JSON object.

    Raises:
        ConfigError: a field is missing, unknown or of another type; the message names it.
    """
    if not isinstance(body, dict):
        raise ConfigError("the body is a JSON object with service, version, port and node")
    unknown = body.keys() - _FIELDS.keys()
    missing = {"service", "version", "port", "node"} - body.keys()
    if unknown or missing:
        raise ConfigError(f"attach: unknown fields {sorted(unknown)}, missing fields {sorted(missing)}")
    for name, value in body.items():
        if type(value) is not _FIELDS[name]:
            raise ConfigError(f"attach: {name} is {value!r}, expected {_FIELDS[name].__name__}")
    protocol = body.get("protocol", "")
    if protocol not in ("", *PROTOCOLS):
        raise ConfigError(f"attach: protocol is {protocol!r}, expected one of {', '.join(PROTOCOLS)}")
    return Attach(
        service=body["service"],
        version=body["version"],
        port=body["port"],
        namespace=body.get("namespace", "default"),
        name=body.get("name") or f"{body['service']}-{body['version']}",
        service_account=body.get("serviceAccount", "default"),
        labels=body.get("labels", {}),
        node=body["node"],
        address=body.get("address", LOOPBACK),
        protocol=protocol,
        gateway_ports=_read_ports(body.get("gatewayPorts", {})),
        weight=body.get("weight", 1),
        locality=body.get("locality", ""),
        probe=body.get("probe", {}),
    )


_FIELDS: dict[str, type] = {
    "service": str,
    "version": str,
    "port": int,
    "namespace": str,
    "name": str,
    "serviceAccount": str,
    "labels": dict,
    "node": str,
    "address": str,
    "protocol": str,
    "gatewayPorts": dict,
    "weight": int,
    "locality": str,
    "probe": dict,
}


def _read_ports(plain: Mapping[str, object]) -> tuple[tuple[int, int], ...]:
    ports = []
    for number, port in plain.items():
        if not number.isdecimal() or type(port) is not int or not 0 <= port <= 65535:
            raise ConfigError(
                f"attach: gatewayPorts maps port numbers (as text) to ports, not {number!r} to {port!r}"
            )
        ports.append((int(number), port))
    return tuple(ports)
