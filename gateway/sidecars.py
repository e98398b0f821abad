"""The API's side of sidecars: tokens made for admins, and what a sidecar asks with its token or session.

These requests carry no admin token. The join token is good for one of them; a session, told in the
answer to it, proves the sidecar in the others until it leaves. The controller, which knows the hashes
of both, says whose they are; namespace, service account and node are never the sidecar's own word.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from ray_mesh.bus import subjects
from ray_mesh.bus.client import Bus
from ray_mesh.bus.messages import (
    ControlReply,
    JoinReply,
    JoinRequest,
    SidecarReply,
    SidecarRequest,
    TokenRequest,
    decode,
    encode,
)
from ray_mesh.errors import ConfigError, Conflict, PolicyDenied, Unauthenticated, Unavailable
from ray_mesh.gateway.admission import key_of
from ray_mesh.gateway.desired import DesiredState
from ray_mesh.gateway.view import MeshView
from ray_mesh.gateway.workloads import Attach, Attached, Workloads, read_attach
from ray_mesh.resources import WorkloadSpec
from ray_mesh.security.join import new_secret, secret_sha256

CONTROL_TIMEOUT_S = 10.0
TRIES_BURST = 100.0
TRIES_PER_S = 20.0
DEFAULT_TTL_S = 600
WORKLOAD_OPTIONS: dict[str, type] = {
    "name": str,
    "protocol": str,
    "weight": int,
    "locality": str,
    "probe": dict,
}
"""What a sidecar may say of its workload beyond what it has to."""

_Reply = TypeVar("_Reply")


@dataclass(slots=True)
class Tries:
    """How many unproven requests one replica takes: a bucket that fills again with time. Pure."""

    left: float = TRIES_BURST
    at: float = 0.0

    def take(self, now: float) -> None:
        """Count one try.

        Raises:
            Unavailable: there were too many.
        """
        self.left = min(TRIES_BURST, self.left + (now - self.at) * TRIES_PER_S)
        self.at = now
        if self.left < 1.0:
            raise Unavailable("too many sidecars try to join at once: try again in a few seconds")
        self.left -= 1.0


class SidecarDesk:
    """What the API does for sidecars. ``refresh`` brings ``state`` up to the store's head; ``clock`` is
    monotonic; ``refusal`` says why there may be no sidecars, and then nothing is asked for them."""

    def __init__(
        self,
        bus: Bus,
        workloads: Workloads,
        state: DesiredState,
        view: MeshView,
        refresh: Callable[[], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
        refusal: str = "",
    ) -> None:
        self._bus = bus
        self._workloads = workloads
        self._state = state
        self._view = view
        self._refresh = refresh
        self._clock = clock
        self._refusal = refusal
        self._tries = Tries(at=clock())

    async def create_token(self, body: Any) -> dict[str, Any]:
        """A join token for one service account, for an admin. It is told once.

        Raises:
            ConfigError: no such account can be, or the life is out of range.
        """
        wanted = _fields(body, {"serviceAccount": str}, {"ttl_s": int})
        ttl_s = wanted.get("ttl_s", DEFAULT_TTL_S)
        token, sha256 = new_secret()
        request = TokenRequest(sha256, wanted["serviceAccount"], ttl_s)
        await self._ask("token", request, ControlReply)
        return {"token": token, "serviceAccount": request.account, "ttl_s": ttl_s}

    def knock(self, authorization: str) -> str:
        """Count a try; returns the hash of the join token or session that is shown, which the others take.
        Nothing else of a request is looked at before.

        Raises:
            Unauthenticated: none is shown.
            Unavailable: there were too many tries.
        """
        self._tries.take(self._clock())
        return secret_sha256(_bearer(authorization))

    async def join(self, token_sha256: str, body: Any) -> dict[str, Any]:
        """Admit the proxy of a sidecar. The token is used up whatever comes of it.

        Raises:
            Unauthenticated: there is no such token.
            PolicyDenied: it was used, is expired, or is for another service account.
            Conflict: the node's name is taken.
        """
        wanted = _fields(
            body,
            {"serviceAccount": str, "node": str, "nkey": str, "identityKeySha256": str},
            {"letterbox": str},
        )
        session, session_sha256 = new_secret()
        request = JoinRequest(
            token_sha256=token_sha256,
            account=wanted["serviceAccount"],
            node=wanted["node"],
            nkey=wanted["nkey"],
            identity_key_sha256=_binary(wanted["identityKeySha256"]),
            session_sha256=session_sha256,
            letterbox=_binary(wanted.get("letterbox", "")),
        )
        reply = await self._ask("join", request, JoinReply)
        return {
            "proxy": reply.proxy,
            "session": session,
            "broker": reply.broker_url,
            "brokerIsOurs": reply.embedded,
            "brokerCa": reply.ca_pem,
            "letter": base64.b64encode(reply.letter).decode(),
            "trustDomain": reply.trust_domain,
            "root": base64.b64encode(reply.root_der).decode(),
            "compiledPublic": base64.b64encode(reply.compiled_public).decode(),
        }

    async def attest(self, session_sha256: str, body: Any) -> SidecarReply:
        """Give the proxy that shows its certificate the full broker credential.

        Raises:
            Unauthenticated: there is no such session.
            PeerError: the certificate is not of this proxy's registered key.
        """
        chain = _fields(body, {"chain": list})["chain"]
        request = SidecarRequest(session_sha256, tuple(map(_binary, chain)))
        return await self._ask("attest", request, SidecarReply)

    async def attach(self, session_sha256: str, body: Any, author: str) -> Attached:
        """Attach the sidecar's workload on its node, under the account that it joined for.

        Raises:
            Unauthenticated: there is no such session.
            Conflict: a workload of that name is others'.
            MeshError: as :meth:`Workloads.attach`.
        """
        wanted = _fields(body, {"service": str, "version": str, "port": int}, WORKLOAD_OPTIONS)
        sidecar = await self._sidecar(session_sha256)
        namespace, _, account = sidecar.account.partition("/")
        attach = read_attach(
            {**wanted, "namespace": namespace, "serviceAccount": account, "node": sidecar.node}
        )
        await self._refresh()
        self._check_name(attach)
        return await self._workloads.attach(attach, author)

    async def detach(self, session_sha256: str, author: str) -> tuple[str, ...]:
        """Take the workloads of the sidecar's node out; the proxy stays. Returns their names.

        Raises:
            Unauthenticated: there is no such session.
        """
        sidecar = await self._sidecar(session_sha256)
        await self._refresh()
        found = [
            record.document
            for record in self._state.records.values()
            if record.document.kind == "Workload" and _node(record.document.spec) == sidecar.node
        ]
        for document in found:
            await self._workloads.detach(document.namespace, document.name, author)
        return tuple(document.name for document in found)

    async def leave(self, session_sha256: str, author: str) -> SidecarReply:
        """End the sidecar: its workloads, its broker credential, its session.

        Raises:
            Unauthenticated: there is no such session.
        """
        await self.detach(session_sha256, author)
        return await self._ask("leave", SidecarRequest(session_sha256), SidecarReply)

    async def _sidecar(self, session_sha256: str) -> SidecarReply:
        return await self._ask("session", SidecarRequest(session_sha256), SidecarReply)

    def _check_name(self, wanted: Attach) -> None:
        """A sidecar may replace its own workload and a dead one of its account, nobody else's."""
        record = self._state.records.get(key_of("Workload", wanted.namespace, wanted.name))
        spec = record.document.spec if record is not None else None
        if not isinstance(spec, WorkloadSpec) or spec.node == wanted.node:
            return
        is_dead = spec.node not in self._view.nodes(self._clock())
        if spec.service_account != wanted.service_account or not is_dead:
            raise Conflict(
                f"workload {wanted.namespace}/{wanted.name} runs on node {spec.node} already:"
                " choose another --name"
            )

    async def _ask(self, verb: str, request: object, answer: type[_Reply]) -> _Reply:
        if self._refusal:
            raise PolicyDenied(self._refusal)
        message = await self._bus.request(
            subjects.control(verb), encode(request), timeout_s=CONTROL_TIMEOUT_S
        )
        return decode(answer, message.data)


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("a sidecar shows its join token or its session: Authorization: Bearer ...")
    return token


def _fields(body: Any, needed: dict[str, type], optional: dict[str, type] | None = None) -> dict[str, Any]:
    known = {**needed, **(optional or {})}
    if not isinstance(body, dict) or body.keys() - known.keys() or needed.keys() - body.keys():
        raise ConfigError(f"the body is a JSON object with {', '.join(known)}")
    for name, value in body.items():
        if type(value) is not known[name]:
            raise ConfigError(f"{name} is {value!r:.80}, expected {known[name].__name__}")
    return body


def _binary(text: object) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConfigError(f"not base64: {error}") from error


def _node(spec: object) -> str:
    return spec.node if isinstance(spec, WorkloadSpec) else ""
