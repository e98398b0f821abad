"""Answers that the proxy itself gives: status, response flag (Envoy's short codes), a sentence for people."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from http import HTTPStatus

from ray_mesh.grpc_status import GrpcStatus
from ray_mesh.security.authorization import Decision
from ray_mesh.snapshot import RateLimit

FLAG_HEADER = "x-mesh-flag"

DEADLINE_EXCEEDED = "deadline_exceeded"
"""The reason of an answer that a caller does not wait for."""

_BODILESS = (204, 304)
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer made here. ``reason`` is a stable word; ``fields`` are further header lines; ``closes``
    ends the connection with it. ``is_public``: the sentence says nothing but what the client sent.
    ``content`` is a body in place of the explanation. ``grpc_status`` is what gRPC callers get, where it
    does not follow from the status (:mod:`.grpc`)."""

    status: int
    flag: str
    reason: str
    message: str
    fields: tuple[str, ...] = ()
    closes: bool = False
    is_public: bool = False
    content: bytes | None = None
    grpc_status: int | None = None

    def edited(self, edit: Callable[[bytes], bytes]) -> Reply:
        """With the fields that an edit of a block of fields makes of its own."""
        block = "\r\n" + "".join(f"{line}\r\n" for line in self.fields)
        lines = edit(block.encode("latin-1", "replace")).decode("latin-1").split("\r\n")
        return replace(self, fields=tuple(line for line in lines if line))

    def render(
        self, *, close: bool, without_body: bool = False, is_brief: bool = False, request_id: str = ""
    ) -> bytes:
        """The reply as HTTP/1.1; ``without_body`` for HEAD, ``is_brief`` without what names the inside."""
        fields, body = self.parts(is_brief=is_brief, request_id=request_id)
        if close:
            fields.append("connection: close")
        lines = [f"HTTP/1.1 {self.status} {_PHRASES.get(self.status, 'Error')}", *fields]
        head = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"
        return head if without_body else head + body

    def parts(self, *, is_brief: bool = False, request_id: str = "") -> tuple[list[str], bytes]:
        """Its field lines, those of the body among them, and the body."""
        is_brief = is_brief and not self.is_public
        fields = [line for line in self.fields if not (is_brief and line.startswith("x-mesh-"))]
        body = self.content
        if body is None:
            body = self._explanation(is_brief, request_id)
            fields.insert(0, f"{FLAG_HEADER}: {self.flag or '-'}")
            if not any(line.lower().startswith("content-type:") for line in fields):
                fields.insert(0, "content-type: application/json")
        if self.status in _BODILESS:
            body = b""
        else:
            fields.append(f"content-length: {len(body)}")
        return fields, body

    def _explanation(self, is_brief: bool, request_id: str) -> bytes:
        said = {"error": self.reason, "flag": self.flag}
        if not is_brief:
            said["message"] = self.message
        if request_id:
            said["request_id"] = request_id
        return json.dumps(said).encode() + b"\n"


_BAD_REQUESTS = {408: "request_timeout", 501: "not_supported"}


def bad_request(code: int, message: str) -> Reply:
    """The client's message cannot be understood one way only, or asks for what is not served."""
    reason = _BAD_REQUESTS.get(code, "bad_request")
    message = f"{message}; the request was not forwarded"
    return Reply(code, "DPE", reason, message, closes=True, is_public=True)


def not_in_mesh(host: str, why: str = "") -> Reply:
    """No service has that host, or the caller does not know it (``why``)."""
    cause = f"host {host!r} is not in the mesh"
    cure = "register a Service or ServiceEntry for it, or correct the name"
    if why:
        cause, cure = f"host {host!r} is unknown to this workload: {why}", "let it know the host"
    return Reply(502, "NR", "host_not_in_mesh", f"{cause}, and outbound traffic is REGISTRY_ONLY; {cure}")


def not_passed(host: str, why: str) -> Reply:
    """No service has that very host, and though others may be called this one never is."""
    message = f"host {host!r} {why}: what is called by any name (ALLOW_ANY, patterns) does not go there"
    return Reply(502, "NR", "host_not_in_mesh", message)


def no_port(host: str, port: int, ports: list[int]) -> Reply:
    """The service is known, but not on that port."""
    known = ", ".join(map(str, ports))
    return Reply(502, "NR", "no_such_port", f"{host} has no port {port}; its ports: {known}")


def no_virtual_host(host: str, port: int) -> Reply:
    """No Gateway serves that host here."""
    return Reply(
        404,
        "NR",
        "no_virtual_host",
        f"no Gateway and VirtualService serve host {host!r} on gateway port {port}",
    )


def denied(decision: Decision, principal: str, workload: str) -> Reply:
    """An AuthorizationPolicy refuses the request; the reply names the policy and the rule."""
    return Reply(
        403,
        "UAEX",
        "denied",
        f"RBAC: access of {principal or 'a caller without identity'} to {workload} denied: {decision.reason}",
        (f"x-mesh-policy: {decision.policy or '-'}", f"x-mesh-rule: {decision.rule}"),
    )


def rate_limited(limit: RateLimit, retry_in_s: int) -> Reply:
    """A rate limit has no token left."""
    return Reply(
        429,
        "RL",
        "rate_limited",
        f"rate limit {limit.name} ({limit.requests} per {limit.per_s} s over the mesh) is used up",
        (f"retry-after: {retry_in_s}",),
    )


def no_route(host: str, path: str) -> Reply:
    """The host is known, but no route matches."""
    return Reply(
        404,
        "NR",
        "no_route",
        f"no route of {host} matches {path}; check the matches of its VirtualServices and HTTPRoutes",
    )


def mirror_given_up(cause: str) -> Reply:
    """A copy for a mirror is not sent; nobody gets this, it is recorded."""
    return Reply(503, "UO", "mirror_given_up", f"a copy for a mirror was not sent: {cause}")


def bad_rewrite(cause: str) -> Reply:
    """The route's rewrite makes a path of this request that may not be forwarded."""
    message = f"the route's rewrite of this path cannot be forwarded: {cause}"
    return Reply(400, "DPE", "bad_rewrite", message)


def unknown_yet(host: str) -> Reply:
    """The control plane did not answer in time what the host is."""
    return Reply(
        503,
        "NC",
        "host_unknown_yet",
        f"configuration of {host} did not arrive in time; is the control plane reachable?",
        ("retry-after: 1",),
    )


def no_endpoint(host: str, subset: str) -> Reply:
    """The service or subset has no members."""
    part = f"subset {subset} of {host}" if subset else host
    return Reply(503, "UH", "no_healthy_upstream", f"{part} has no endpoints; is a workload of it running?")


def all_ejected(host: str, subset: str, count: int) -> Reply:
    """All members are left out."""
    part = f"subset {subset} of {host}" if subset else host
    return Reply(
        503,
        "UH",
        "all_endpoints_ejected",
        f"all {count} endpoints of {part} failed and are left out for a while (outlierDetection)",
        ("retry-after: 1",),
    )


def no_proxy(host: str, endpoints: list[str]) -> Reply:
    """All that serves a host has no proxy, and nothing allows to call it without TLS."""
    names = ", ".join(sorted({name for name in endpoints if name})) or "its endpoints"
    return Reply(
        503,
        "UH",
        "endpoint_without_proxy",
        f"{names} of {host} has no proxy of the mesh, so mutual TLS with it is impossible; to allow plain "
        f"HTTP apply a DestinationRule for {host} with trafficPolicy.tls.mode: DISABLE",
    )


def no_destination(host: str, why: str = "") -> Reply:
    """A route names a host that no service has, or that the caller does not know (``why``)."""
    cause = f"which this workload does not know: {why}" if why else "which is not in the mesh"
    cure = "correct the VirtualService or " + ("export the host" if why else "register it")
    return Reply(503, "NC", "no_such_destination", f"a route sends to {host!r}, {cause}; {cure}")


def invalid_backend(host: str, status: int) -> Reply:
    """A route may not send to one of its backends, or there is no such backend."""
    return Reply(
        status,
        "NC",
        "invalid_backend",
        f"a route's backend {host!r} is not in the mesh or not open to the route; "
        "apply its Service, or a ReferenceGrant in its namespace",
    )


def no_subset(host: str, subset: str) -> Reply:
    """A route names a subset that the service does not have."""
    return Reply(
        503,
        "NC",
        "no_such_subset",
        f"{host} has no subset {subset!r}; add it to the service's DestinationRule",
    )


def injected_abort(status: int, grpc_status: GrpcStatus | None = None) -> Reply:
    """The route's fault asked for it, by a status of HTTP or of gRPC."""
    said = status if grpc_status is None else grpc_status.name
    message = f"aborted with {said} by the fault of the route"
    return Reply(status, "FI", "fault_abort", message, grpc_status=grpc_status)


def connect_failed(where: str, cause: str) -> Reply:
    """No connection could be made."""
    return Reply(503, "UF", "upstream_connect_failed", f"cannot connect to {where}: {cause}")


def connection_reset(where: str) -> Reply:
    """The upstream closed before it answered, and the request cannot be sent again safely."""
    return Reply(
        503, "UC", "upstream_reset", f"{where} closed the connection before it answered; not safe to repeat"
    )


def cut_off(status: int, where: str) -> Reply:
    """The upstream closed in the middle of its response, which has gone out in part."""
    return Reply(
        status, "UC", "response_cut_off", f"{where} closed the connection before its response was complete"
    )


def overflow(where: str) -> Reply:
    """Too many connections."""
    return Reply(503, "UO", "upstream_overflow", f"too many connections to {where}", ("retry-after: 1",))


def given_up(reply: Reply, attempts: int) -> Reply:
    """An answer after all the retries that the route allows."""
    message = f"{reply.message}; given up after {attempts} attempts"
    return replace(reply, flag=f"{reply.flag},URX", message=message)


def try_timed_out(timeout_s: float, where: str) -> Reply:
    """The timeout of one try passed, and there is no other."""
    message = f"{where} did not answer within {timeout_s:g} s (perTryTimeout)"
    return Reply(504, "UT", "try_timeout", message, grpc_status=GrpcStatus.DEADLINE_EXCEEDED)


def breaker_open(limit: str, value: float, where: str, origin: str) -> Reply:
    """A limit of a DestinationRule is reached."""
    return Reply(
        503,
        "UO",
        "upstream_overflow",
        f"{limit} {value:g} of {origin} is reached for {where}; the request was not sent",
        ("x-mesh-overloaded: true", "retry-after: 1"),
    )


def bad_response(where: str, cause: str) -> Reply:
    """The upstream's answer breaks HTTP."""
    return Reply(502, "UPE", "bad_response", f"{where} sent a response that breaks HTTP: {cause}")


def timed_out(timeout_s: float, route: str) -> Reply:
    """The route's timeout passed."""
    message = f"no complete response within {timeout_s:g} s (route {route})"
    return Reply(504, "UT", "upstream_timeout", message, grpc_status=GrpcStatus.DEADLINE_EXCEEDED)


def deadline_exceeded(timeout_s: float) -> Reply:
    """The time that the caller allows (``grpc-timeout``) passed."""
    message = f"no complete response within the {timeout_s:g} s that the caller allows (grpc-timeout)"
    return Reply(504, "UT", DEADLINE_EXCEEDED, message, grpc_status=GrpcStatus.DEADLINE_EXCEEDED)


def stalled(idle_s: float) -> Reply:
    """Nothing moved for a long time."""
    return Reply(504, "SI", "stream_idle", f"no byte moved in either direction for {idle_s:g} s")


OVERLOADED = Reply(
    503,
    "OM",
    "overloaded",
    "this proxy has too many connections, too little memory or a loop that is late; try again",
    ("retry-after: 1",),
    closes=True,
    is_public=True,
)


def not_a_tunnel(host: str, port: int) -> Reply:
    """CONNECT to a port for requests."""
    return Reply(
        405,
        "NR",
        "port_is_http",
        f"port {port} of {host} is HTTP: send this proxy the request itself (GET http://{host}:{port}/...), "
        "CONNECT is for ports of protocol TCP and TLS",
    )


def not_http(host: str, port: int, protocol: str) -> Reply:
    """A request to a port that is not for requests."""
    return Reply(
        502,
        "NR",
        "port_is_not_http",
        f"port {port} of {host} is {protocol.upper()}, not HTTP: open a tunnel with CONNECT {host}:{port}",
    )


def no_tcp_port(workload: str, host: str, port: int) -> Reply:
    """The callee knows no such port for connections."""
    return Reply(
        502, "NR", "no_such_port", f"{workload} serves no connections that are not HTTP as {host}:{port}"
    )


def to_https(host: str, target: str) -> Reply:
    """A Gateway's httpsRedirect."""
    return Reply(
        301,
        "",
        "https_only",
        "this host is served over HTTPS only",
        (f"location: https://{host}{target}",),
        is_public=True,
    )


def misdirected(host: str) -> Reply:
    """The host is another TLS server's, which may ask more of its callers."""
    return Reply(
        421,
        "NR",
        "misdirected",
        f"the TLS server name of this connection leads to another server than host {host!r} is of: "
        "connect with the host as the server name",
        is_public=True,
    )


def bad_hello(cause: str) -> Reply:
    """The port is for TLS, and these bytes are not."""
    return Reply(400, "DPE", "bad_client_hello", f"the port is TLS: {cause}")


def other_name(host: str, sni: str) -> Reply:
    """A tunnel to a host outside is for that host only."""
    return Reply(
        403,
        "UAEX",
        "other_server_name",
        f"the tunnel was opened to {host}, but the TLS inside is for {sni!r}: call a host by its own name",
    )


def no_tls_route(host: str, port: int, sni: str) -> Reply:
    """TLS routes exist for the port, and none is for the name in the handshake."""
    named = f"server name {sni!r}" if sni else "a handshake without server name"
    return Reply(502, "NR", "no_route", f"no TLS route of {host}:{port} is for {named}; check the sniHosts")


NO_TUNNELS = Reply(
    405, "NR", "no_tunnels", "CONNECT is served on the outbound listeners of workloads only", closes=True
)
TOKEN_REQUIRED = Reply(
    407,
    "UAEX",
    "token_required",
    "this listener speaks for one workload: use the proxy URL with the workload's name and token, "
    "http://<workload>:<token>@127.0.0.1:<port>",
    ('proxy-authenticate: Basic realm="ray-mesh workload"',),
    grpc_status=GrpcStatus.UNAUTHENTICATED,
)
EXPIRED = Reply(
    403,
    "UAEX",
    "identity_expired",
    "the client certificate of this connection has expired or is trusted no more; connect again",
    closes=True,
)
