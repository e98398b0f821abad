"""Who may have which identity: what the CA knows, and its decisions.

A proxy gets its own identity only with the very key whose hash the controller registered, which
proves that the key was made in that proxy. It gets a workload's identity only for a request signed with
that key, and if the workload is registered on the proxy's node and an admin has bound its service
account to that node. Everything else is refused, with a sentence that says why and what to do.

Pure state: events in, decisions out, no clock of its own.
"""

from __future__ import annotations

import hmac
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from ray_mesh.errors import ConfigError, MeshError, PolicyDenied
from ray_mesh.security import possession
from ray_mesh.security.ca import public_key_sha256, requested_key
from ray_mesh.security.identity import SpiffeId, for_workload

ROOT_NAMESPACE = "mesh-system"
PROXY_PREFIX = "proxy-"
ANY_NODE = "*"

_LOG_LENGTH = 1000


class CertificateRequest(Protocol):
    """What a proxy asks: a workload's key, or empty for its own identity, and a request in DER. For a
    workload it is signed with the proxy's own key, of which ``proxy_key`` is the public half in DER."""

    @property
    def workload(self) -> str: ...

    @property
    def csr_der(self) -> bytes: ...

    @property
    def proxy_key(self) -> bytes: ...

    @property
    def proof(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class ProxyRegistration:
    """A proxy as its controller started it. ``key_sha256`` is :func:`ca.public_key_sha256` of its key.

    ``account`` (``<namespace>/<service account>``) is the only one that a sidecar's proxy may speak for;
    empty means any that is bound to the node.
    """

    node: str
    nkey: str
    key_sha256: bytes
    account: str = ""


@dataclass(frozen=True, slots=True)
class WorkloadRegistration:
    """Where a workload runs and as whom."""

    node: str
    namespace: str
    service_account: str


@dataclass(frozen=True, slots=True)
class BindingRegistration:
    """On which nodes a service account may run; ``*`` is any node."""

    namespace: str
    service_account: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One entry of the log. ``identity`` is empty and ``reason`` says why when it was refused."""

    at: float
    proxy: str
    workload: str
    identity: str
    reason: str


class Registrations:
    """The state of the CA's decisions for one trust domain."""

    def __init__(self, trust_domain: str) -> None:
        self.trust_domain = SpiffeId(trust_domain).trust_domain
        self.log: deque[Verdict] = deque(maxlen=_LOG_LENGTH)
        self._proxies: dict[str, ProxyRegistration] = {}
        self._workloads: dict[str, WorkloadRegistration] = {}
        self._bindings: dict[str, BindingRegistration] = {}

    def set_proxy(self, name: str, proxy: ProxyRegistration) -> None:
        """The controller started a proxy; a name that is used again forgets the key it had before.

        Raises:
            ConfigError: a bad name, an empty node, a hash of another length, or a key or broker
                credential that another proxy has.
        """
        if not proxy.node or len(proxy.key_sha256) != 32:
            raise ConfigError(f"proxy {name} needs a node and the SHA-256 of its public key")
        proxy_identity(self.trust_domain, name)
        for other, known in self._proxies.items():
            if other != name and (known.nkey == proxy.nkey or known.key_sha256 == proxy.key_sha256):
                raise ConfigError(f"proxy {name} has the key or the broker credential of proxy {other}")
        self._proxies[name] = proxy

    def remove_proxy(self, name: str) -> None:
        """The proxy is gone; unknown names are ignored."""
        self._proxies.pop(name, None)

    def set_workload(self, key: str, workload: WorkloadRegistration) -> None:
        """A workload's document was admitted or changed.

        Raises:
            ConfigError: no node, or a name that cannot stand in a SPIFFE ID.
        """
        if not workload.node:
            raise ConfigError(f"{key} names no node")
        for_workload(self.trust_domain, workload.namespace, workload.service_account)
        self._workloads[key] = workload

    def remove_workload(self, key: str) -> None:
        """The workload is gone; unknown keys are ignored."""
        self._workloads.pop(key, None)

    def set_binding(self, key: str, binding: BindingRegistration) -> None:
        """A WorkloadBinding was admitted or changed."""
        self._bindings[key] = binding

    def remove_binding(self, key: str) -> None:
        """The WorkloadBinding is gone; unknown keys are ignored."""
        self._bindings.pop(key, None)

    def decide(self, proxy: str, request: CertificateRequest, now: float) -> SpiffeId:
        """The identity to issue to ``proxy`` (as the subject names it), entered in the log either way.

        Raises:
            PolicyDenied: it may not have it; the message says why.
            PeerError: the certificate request is unreadable or unproven.
        """
        try:
            identity = self._decide(proxy, request)
        except MeshError as error:
            self.log.append(Verdict(now, proxy, request.workload, "", str(error)))
            raise
        self.log.append(Verdict(now, proxy, request.workload, str(identity), ""))
        return identity

    def may_run(self, namespace: str, service_account: str, node: str) -> bool:
        """Whether some WorkloadBinding lets the service account run on the node."""
        return any(
            (each.namespace, each.service_account) == (namespace, service_account)
            and (node in each.nodes or ANY_NODE in each.nodes)
            for each in self._bindings.values()
        )

    def validate(self) -> None:
        """Assert what always holds: no two proxies share a key or a broker credential."""
        proxies = self._proxies.values()
        assert len({each.key_sha256 for each in proxies}) == len(proxies), "two proxies share a key"
        assert len({each.nkey for each in proxies}) == len(proxies), "two proxies share a credential"
        assert all(each.node and len(each.key_sha256) == 32 for each in proxies)
        assert len(self.log) <= _LOG_LENGTH

    def _decide(self, proxy: str, request: CertificateRequest) -> SpiffeId:
        registered = self._proxies.get(proxy)
        if registered is None:
            raise PolicyDenied(
                f"proxy {proxy} is not registered with this CA: the controller has not started it,"
                " or has replaced it"
            )
        key_sha256 = public_key_sha256(requested_key(request.csr_der))
        if request.workload:
            possession.check(
                registered.key_sha256,
                request.proxy_key,
                request.proof,
                proxy,
                request.workload,
                request.csr_der,
            )
            return self._decide_workload(proxy, registered, request.workload)
        if not hmac.compare_digest(key_sha256, registered.key_sha256):
            raise PolicyDenied(
                f"proxy {proxy} asked with a key that the controller did not register for it: the key was"
                " not made in the proxy that was started under this name"
            )
        return proxy_identity(self.trust_domain, proxy)

    def _decide_workload(self, proxy: str, registered: ProxyRegistration, key: str) -> SpiffeId:
        node = registered.node
        workload = self._workloads.get(key)
        if workload is None:
            raise PolicyDenied(f"{key} is not registered: attach the workload before asking for its identity")
        account = f"{workload.namespace}/{workload.service_account}"
        if workload.node != node:
            raise PolicyDenied(
                f"{key} is on node {workload.node}: proxy {proxy} of node {node} may not speak for it"
            )
        if registered.account not in ("", account):
            raise PolicyDenied(f"{key} runs as {account}: proxy {proxy} joined for {registered.account} only")
        if workload.namespace == ROOT_NAMESPACE and workload.service_account.startswith(PROXY_PREFIX):
            raise PolicyDenied(f"{key} may not run as {account}: that is the identity of a proxy")
        if not self.may_run(workload.namespace, workload.service_account, node):
            raise PolicyDenied(
                f"service account {account} may not run on node {node}: no WorkloadBinding covers it;"
                f" an admin can add node {node} to one in namespace {workload.namespace}"
            )
        return for_workload(self.trust_domain, workload.namespace, workload.service_account)


def proxy_identity(trust_domain: str, proxy: str) -> SpiffeId:
    """A proxy's own identity.

    Raises:
        ConfigError: the name cannot stand in a SPIFFE ID.
    """
    return for_workload(trust_domain, ROOT_NAMESPACE, PROXY_PREFIX + proxy)
