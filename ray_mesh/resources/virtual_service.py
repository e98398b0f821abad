"""Istio's VirtualService (networking.istio.io), HTTP routes honoured."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Annotated

from pydantic import Field

from ray_mesh.grpc_status import GrpcStatus
from ray_mesh.resources.connection_routes import TcpRoute, TlsRoute
from ray_mesh.resources.destination import Destination
from ray_mesh.resources.exports import export_flaws, placed_export_flaws
from ray_mesh.resources.gateway_names import is_gateway_name
from ray_mesh.resources.header_operations import Headers, is_plain_header_name
from ray_mesh.resources.host_names import host_or_address_flaws
from ray_mesh.resources.hosts import MESH_GATEWAY, pattern_covers
from ray_mesh.resources.retries import Retries
from ray_mesh.resources.route_ways import (
    AbsentMatch,
    CorsPolicy,
    DirectResponse,
    Redirect,
    Rewrite,
    StringMatch,
)
from ray_mesh.resources.schema import (
    LATER,
    Duration,
    Flaw,
    InjectedShare,
    LabelName,
    LabelText,
    Model,
    NonEmpty,
    Percentage,
    UInt32,
    is_label,
)
from ray_mesh.resources.source import Path

_CLAIM = re.compile(r"@request\.auth\.claims(\.[^.\[\]].*|(\[[^\[\]]+\])+)")


class HttpMatch(Model):
    """All conditions that are set must hold."""

    name: str = ""
    uri: StringMatch | None = None
    scheme: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    headers: dict[str, StringMatch] = {}
    without_headers: dict[str, AbsentMatch] = {}
    query_params: dict[str, StringMatch] = {}
    ignore_uri_case: bool = False
    port: Annotated[int, Field(ge=0, le=65535)] | None = None
    source_labels: dict[LabelName, LabelText] = {}
    source_namespace: str = ""
    gateways: tuple[NonEmpty, ...] = ()
    stat_prefix: Annotated[str | None, LATER] = None

    def flaws(self) -> Iterator[Flaw]:
        for name in ("uri", "scheme", "method", "authority"):
            match = getattr(self, name)
            if match is not None and not match.model_fields_set:
                yield Flaw((name,), "set one of exact, prefix and regex")
        for header in self.headers:
            yield from _header_flaws("headers", header)
        for header in self.without_headers:
            yield from _header_flaws("withoutHeaders", header)
        yield from self._prefix_flaws()
        if self.source_namespace and not is_label(self.source_namespace):
            yield Flaw(("sourceNamespace",), f"{self.source_namespace!r} is not a namespace")
        for pattern in self.gateways:
            if not is_gateway_name(pattern):
                yield Flaw(("gateways",), f"{pattern!r} names no gateway: write name or namespace/name")

    def _prefix_flaws(self) -> Iterator[Flaw]:
        """An empty prefix is one of the path only."""
        others: dict[Path, StringMatch | None] = {
            ("scheme",): self.scheme,
            ("method",): self.method,
            ("authority",): self.authority,
            **{("headers", name): match for name, match in self.headers.items()},
            **{("withoutHeaders", name): match for name, match in self.without_headers.items()},
            **{("queryParams", name): match for name, match in self.query_params.items()},
        }
        for path, match in others.items():
            if match is not None and match.prefix == "":
                yield Flaw((*path, "prefix"), "a prefix is not empty")


def _header_flaws(field: str, header: str) -> Iterator[Flaw]:
    if is_claim(header):
        yield Flaw((field, header), "routing by claims of a token", later=True)
    elif not is_plain_header_name(header):
        yield Flaw((field, header), "not the name of a header (pseudo-headers have fields of their own)")


def is_claim(header: str) -> bool:
    """Whether a match is of a claim of the token rather than of a header."""
    return bool(_CLAIM.fullmatch(header))


class HttpRouteDestination(Model):
    """A share of a route."""

    destination: Destination
    weight: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    headers: Headers | None = None


class Delay(Model):
    """A delay in a share of requests; ``percent`` is the older, whole-number form."""

    fixed_delay: Duration | None = None
    exponential_delay: Duration | None = None
    percentage: InjectedShare | None = None
    percent: Annotated[int, Field(ge=0, le=100)] | None = None

    def flaws(self) -> Iterator[Flaw]:
        if self.exponential_delay is not None:
            yield Flaw(("exponentialDelay",), "not supported, by Istio neither: write fixedDelay")
        elif self.fixed_delay is None:
            yield Flaw((), "fixedDelay is missing")
        if self.percentage is not None and self.percent is not None:
            yield Flaw(("percent",), "set percentage only; percent is its older form")


class Abort(Model):
    """An answer without calling upstream, in a share of requests."""

    http_status: Annotated[int, Field(ge=200, le=600)] | None = None
    grpc_status: str | None = None
    http2_error: Annotated[str | None, Field(alias="http2Error")] = None
    percentage: InjectedShare | None = None

    def flaws(self) -> Iterator[Flaw]:
        causes = [self.http_status, self.grpc_status, self.http2_error]
        if sum(cause is not None for cause in causes) != 1:
            yield Flaw((), "set one of httpStatus, grpcStatus and http2Error")
        elif self.http_status == 600:
            yield Flaw(("httpStatus",), "600: up to 599", later=True)
        elif self.http2_error is not None:
            yield Flaw(("http2Error",), "not supported, by Istio neither: write httpStatus")
        elif self.grpc_status is not None and self.grpc_status not in GRPC_STATUSES:
            close = get_close_matches(self.grpc_status.upper(), GRPC_STATUSES, 1, 0.6)
            hint = f"did you mean {close[0]}?" if close else f"write one of {', '.join(GRPC_STATUSES)}"
            yield Flaw(("grpcStatus",), f"{self.grpc_status!r} is no status of gRPC; {hint}")


GRPC_STATUSES = tuple(GrpcStatus.__members__)


class Fault(Model):
    """Injected trouble."""

    delay: Delay | None = None
    abort: Abort | None = None

    def flaws(self) -> Iterator[Flaw]:
        if self.delay is None and self.abort is None:
            yield Flaw((), "a fault has a delay, an abort or both")


class Delegate(Model):
    """Another VirtualService that holds the routes."""

    name: str = ""
    namespace: str = ""

    def flaws(self) -> Iterator[Flaw]:
        if not self.name:
            yield Flaw(("name",), "the name of the VirtualService is missing")


class Mirror(Model):
    """A copy of the traffic."""

    destination: Destination
    percentage: Percentage | None = None


class HttpRoute(Model):
    """One rule: the first whose match holds decides."""

    name: str = ""
    match: tuple[HttpMatch, ...] = ()
    route: tuple[HttpRouteDestination, ...] = ()
    redirect: Redirect | None = None
    direct_response: DirectResponse | None = None
    delegate: Delegate | None = None
    rewrite: Rewrite | None = None
    timeout: Duration | None = None
    retries: Retries | None = None
    fault: Fault | None = None
    mirror: Destination | None = None
    mirror_percent: UInt32 | None = None
    mirror_percent_snake: Annotated[UInt32 | None, Field(alias="mirror_percent")] = None
    mirror_percentage: Percentage | None = None
    mirrors: tuple[Mirror, ...] = ()
    cors_policy: CorsPolicy | None = None
    headers: Headers | None = None

    def flaws(self) -> Iterator[Flaw]:
        answers = [self.redirect, self.direct_response, self.delegate]
        given = sum(answer is not None for answer in answers) + bool(self.route)
        if given == 0:
            yield Flaw((), "route is missing: say where the requests go")
        elif given > 1:
            yield Flaw((), "set one of route, redirect, directResponse and delegate")
        if self.redirect or self.direct_response:
            yield from self._answer_flaws()
        authorities = self.headers.authorities if self.headers else ()
        if len(authorities) + bool(self.rewrite and self.rewrite.authority) > 1:
            yield Flaw(("headers", "request"), "authority header cannot be set multiple times")
        if self.redirect and self.redirect.prefix_rewrite:
            for index, match in enumerate(self.match):
                if match.uri is not None and match.uri.prefix is None:
                    yield Flaw(("match", index, "uri"), "redirect.prefixRewrite needs a prefix to replace")
        yield from self._mirror_flaws()
        if len(self.route) > 1 and not any(share.weight for share in self.route):
            yield Flaw(("route",), "several destinations need weights, and not all of them 0")

    @property
    def copies(self) -> tuple[Mirror, ...]:
        """Its mirrors, whichever way they are written."""
        if self.mirror is None:
            return self.mirrors
        percentage = self.mirror_percentage
        for percent in (self.mirror_percent, self.mirror_percent_snake):
            if percent is not None:
                percentage = Percentage(value=percent)
        return (Mirror(destination=self.mirror, percentage=percentage),)

    @property
    def destinations(self) -> tuple[Destination, ...]:
        """Everything that it sends requests to, mirrors among them."""
        shares = (share.destination for share in self.route)
        return (*shares, *(mirror.destination for mirror in self.copies))

    def _mirror_flaws(self) -> Iterator[Flaw]:
        names = {"mirror_percent": "mirrorPercent", "mirror_percent_snake": "mirror_percent"}
        names["mirror_percentage"] = "mirrorPercentage"
        given = [shown for name, shown in names.items() if name in self.model_fields_set]
        if self.mirror is not None and self.mirrors:
            yield Flaw(("mirrors",), "set one of mirror and mirrors")
        if given and self.mirror is None:
            yield Flaw((given[0],), "without a mirror", later=True)
        if len(given) > 1:
            yield Flaw((given[1],), f"set one of {' and '.join(given)}")
        for name, percent in (
            ("mirrorPercent", self.mirror_percent),
            ("mirror_percent", self.mirror_percent_snake),
        ):
            if percent is not None and percent > 100:
                yield Flaw((name,), "a percentage is 0 to 100")

    def _answer_flaws(self) -> Iterator[Flaw]:
        """A rule that answers itself sends nothing, so nothing of it can be changed or copied."""
        answer = "redirect" if self.redirect else "directResponse"
        for name in ("fault", "rewrite"):
            if getattr(self, name):
                yield Flaw((name,), f"set one of {answer} and {name}")
        for name in ("mirror", "mirrors", "retries", "timeout"):
            if getattr(self, name):
                yield Flaw((name,), f"beside {answer}, which sends nothing anywhere", later=True)


class VirtualServiceSpec(Model):
    """How requests to hosts are routed, by the proxies of the mesh or by gateways."""

    hosts: tuple[NonEmpty, ...] = ()
    gateways: tuple[NonEmpty, ...] = ()
    http: tuple[HttpRoute, ...] = ()
    tls: tuple[TlsRoute, ...] = ()
    tcp: tuple[TcpRoute, ...] = ()
    export_to: tuple[str, ...] = ()

    def flaws(self) -> Iterator[Flaw]:
        if not (self.http or self.tls or self.tcp):
            yield Flaw((), "http is missing: a VirtualService has routes (or tls, or tcp)")
        yield from self._host_flaws() if self.hosts else self._delegate_flaws()
        if not self.gateways or MESH_GATEWAY in self.gateways:
            yield from self._claim_flaws()
        yield from self._sni_flaws()
        yield from export_flaws(self.export_to, ("exportTo",))
        for index, name in enumerate(self.gateways):
            if not is_gateway_name(name):
                yield Flaw(("gateways", index), f"{name!r} names no gateway: write name or namespace/name")

    def placed_flaws(self, namespace: str) -> Iterator[Flaw]:
        yield from placed_export_flaws(self.export_to, namespace)

    def _claim_flaws(self) -> Iterator[Flaw]:
        for index, rule in enumerate(self.http):
            for number, match in enumerate(rule.match):
                for field, names in (("headers", match.headers), ("withoutHeaders", match.without_headers)):
                    for name in filter(is_claim, names):
                        path = ("http", index, "match", number, field, name)
                        yield Flaw(path, "JWT claim based routing is only supported for gateways")

    def _sni_flaws(self) -> Iterator[Flaw]:
        for index, rule in enumerate(self.tls):
            for number, match in enumerate(rule.match):
                for place, sni in enumerate(match.sni_hosts):
                    if not any(pattern_covers(host.lower(), sni.lower()) for host in self.hosts):
                        path = ("tls", index, "match", number, "sniHosts", place)
                        yield Flaw(path, f"{sni!r} is not a compatible subset of the virtual service's hosts")

    def _delegate_flaws(self) -> Iterator[Flaw]:
        """Without hosts it is there to be delegated to."""
        if self.gateways:
            yield Flaw(("gateways",), "without hosts (a delegate) it has no gateways: those are the root's")
        if self.tls or self.tcp:
            yield Flaw(("hosts",), "hosts are missing")
        for index, rule in enumerate(self.http):
            if rule.delegate is not None:
                message = "a VirtualService without hosts (a delegate) cannot delegate in turn"
                yield Flaw(("http", index, "delegate"), message)

    def _host_flaws(self) -> Iterator[Flaw]:
        mesh = not self.gateways or "mesh" in self.gateways
        for index, host in enumerate(self.hosts):
            yield from host_or_address_flaws(("hosts", index), host)
            if host == "*" and mesh:
                yield Flaw(("hosts", index), "the host * is for gateways only; inside the mesh name the host")
            elif any(pattern_covers(other, host) for other in self.hosts[:index]):
                yield Flaw(("hosts", index), f"{host!r} is already covered by a host above")
            elif any(pattern_covers(host, other) for other in self.hosts[:index]):
                yield Flaw(("hosts", index), f"{host!r} covers a host above")
