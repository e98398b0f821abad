"""CertificateAuthorityActor: issues SVIDs for requests over NATS (Citadel's role)."""

from __future__ import annotations

import time

from ray_mesh.actors.desired import DesiredFollower
from ray_mesh.actors.role import Role
from ray_mesh.actors.settings import RoleSettings
from ray_mesh.bus import messages, subjects
from ray_mesh.bus.client import Message
from ray_mesh.errors import MeshError
from ray_mesh.resources import Document, WorkloadBindingSpec, WorkloadSpec
from ray_mesh.security.ca import Authority
from ray_mesh.security.registrations import (
    BindingRegistration,
    ProxyRegistration,
    Registrations,
    WorkloadRegistration,
)

READ_AGAIN_S = 10.0


class CertificateAuthorityActor(Role):
    """One of N signers with the same intermediate. Who may have what is decided by
    :class:`~ray_mesh.security.registrations.Registrations`: proxies come from the controller, workloads and
    bindings from desired state. That the asking proxy is who the subject says is proven by its key.
    """

    def __init__(self, settings: RoleSettings) -> None:
        super().__init__(settings)
        self._authority = self.state_dir.authority()
        self._read_at = time.monotonic()
        self._registrations = Registrations(settings.options.trust_domain)
        self._desired = DesiredFollower(settings.keys.admission_public, self._heard_desired)

    async def run(self) -> None:
        """Answer certificate requests."""
        await self._desired.start(self.bus)
        await self.bus.serve(subjects.every("csr"), self._sign, queue=subjects.CSR_QUEUE)

    async def register_proxy(self, proxy: str, registration: ProxyRegistration) -> None:
        """The controller started this proxy; only the key it registers may get its identity."""
        self._registrations.set_proxy(proxy, registration)

    async def forget_proxy(self, proxy: str) -> None:
        """The proxy is gone; its name gets nothing any more."""
        self._registrations.remove_proxy(proxy)

    def _heard_desired(self, key: str, document: Document | None, revision: int) -> None:
        spec = document.spec if document is not None else None
        if document is not None and isinstance(spec, WorkloadSpec):
            registration = WorkloadRegistration(spec.node, document.namespace, spec.service_account)
            self._registrations.set_workload(key, registration)
        elif document is not None and isinstance(spec, WorkloadBindingSpec):
            binding = BindingRegistration(document.namespace, spec.service_account, tuple(spec.nodes))
            self._registrations.set_binding(key, binding)
        elif document is None:
            self._registrations.remove_workload(key)
            self._registrations.remove_binding(key)

    async def _sign(self, message: Message) -> bytes:
        proxy = subjects.last_token(message.subject)
        try:
            reply = self._issue(proxy, messages.decode(messages.CsrRequest, message.data))
        except MeshError as error:
            self.report("warning", error.reason, f"certificate refused to {proxy}: {error}")
            reply = messages.CsrReply(error=str(error))
        return messages.encode(reply)

    def _issue(self, proxy: str, request: messages.CsrRequest) -> messages.CsrReply:
        now = time.time()
        identity = self._registrations.decide(proxy, request, now)
        chain = self._signer(now).issue(request.csr_der, identity, self.settings.options.svid_ttl_s, now)
        return messages.CsrReply(chain=chain, bundle=(self.settings.keys.root_der,))

    def _signer(self, now: float) -> Authority:
        """The intermediate; when it is due, the controller has made a new one, or will."""
        if self._authority.is_due(now) and time.monotonic() - self._read_at >= READ_AGAIN_S:
            self._read_at = time.monotonic()
            self._authority = self.state_dir.authority()
        return self._authority
