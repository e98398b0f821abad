"""Istio's WorkloadGroup (networking.istio.io): what the WorkloadEntries of one group have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from ray_mesh.resources.schema import Flaw, LabelName, LabelText, Model, NonEmpty, PortNumber
from ray_mesh.resources.workload_entry import EntryTemplate

NotNegative = Annotated[int, Field(ge=0, lt=2**31)]


class GroupMetadata(Model):
    """Labels and annotations that each entry gets."""

    labels: Annotated[dict[LabelName, LabelText], Field(max_length=256)] = {}
    annotations: Annotated[dict[NonEmpty, str], Field(max_length=256)] = {}


class ProbeHeader(Model):
    """A header of a probe."""

    name: Annotated[str, Field(pattern=r"^[-_A-Za-z0-9]+$")] = ""
    value: Annotated[str, Field(pattern=r"^[^\x00-\x08\x0a-\x1f\x7f]*$")] = ""


class HttpProbe(Model):
    """A GET that has to be answered with 200 to 399."""

    path: str = "/"
    port: PortNumber
    host: str = ""
    scheme: str = "HTTP"
    http_headers: tuple[ProbeHeader, ...] = ()

    def flaws(self) -> Iterator[Flaw]:
        if self.scheme not in ("", "HTTP", "HTTPS"):
            yield Flaw(("scheme",), f"{self.scheme!r} is not HTTP or HTTPS")
        if any(letter <= " " or letter == "\x7f" for letter in self.path):
            yield Flaw(("path",), f"{self.path!r} is no part of a request line: encode it")
        for index, header in enumerate(self.http_headers):
            if not header.name:
                yield Flaw(("httpHeaders", index, "name"), "header name cannot be empty")


class TcpProbe(Model):
    """A connection that has to be made."""

    host: str = ""
    port: PortNumber


class ExecProbe(Model):
    """A command that has to end with 0."""

    command: Annotated[tuple[NonEmpty, ...], Field(min_length=1)]


class GrpcProbe(Model):
    """A call of gRPC's health service, about one service or (empty) the server. Without a port it is that of
    the workload."""

    port: PortNumber | None = None
    service: Annotated[str, Field(max_length=1024)] = ""


class ReadinessProbe(Model):
    """How a workload of the group is asked whether it is well; 0 means the default of a number."""

    initial_delay_seconds: NotNegative = 0
    timeout_seconds: NotNegative = 1
    period_seconds: NotNegative = 10
    success_threshold: NotNegative = 1
    failure_threshold: NotNegative = 3
    http_get: HttpProbe | None = None
    tcp_socket: TcpProbe | None = None
    exec: ExecProbe | None = None
    grpc: GrpcProbe | None = None

    def flaws(self) -> Iterator[Flaw]:
        ways = (self.http_get, self.tcp_socket, self.exec, self.grpc)
        if sum(way is not None for way in ways) != 1:
            yield Flaw((), "set one of httpGet, tcpSocket, exec and grpc")


class WorkloadGroupSpec(Model):
    """A template of WorkloadEntries, and how they are probed."""

    metadata: GroupMetadata | None = None
    template: EntryTemplate
    probe: ReadinessProbe | None = None
