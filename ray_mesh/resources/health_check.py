"""The mesh's own HealthCheck (mesh.ray.io/v1): callers ask endpoints regularly whether they are well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from ray_mesh.resources.host_names import host_flaws
from ray_mesh.resources.schema import Duration, Flaw, Model, NonEmpty, seconds

Threshold = Annotated[int, Field(ge=1, le=100)]


class HttpProbe(Model):
    """A GET that has to be answered with 200 to 399."""

    path: Annotated[str, Field(pattern=r"^/[!$&-.0-9:;=?@A-Z_a-z~/%+,]*$", max_length=1024)] = "/"


class TcpProbe(Model):
    """A connection that has to be made. It has no fields."""


class HealthCheckSpec(Model):
    """How the endpoints of a host are checked. One that fails ``unhealthyThreshold`` times in a row is left
    out until ``healthyThreshold`` checks in a row succeed."""

    host: NonEmpty
    http: HttpProbe | None = None
    tcp: TcpProbe | None = None
    interval: Duration = "10s"
    timeout: Duration = "1s"
    unhealthy_threshold: Threshold = 3
    healthy_threshold: Threshold = 2

    def flaws(self) -> Iterator[Flaw]:
        if "*" in self.host or any(host_flaws((), self.host)):
            yield Flaw(("host",), f"{self.host!r} is not a host")
        if (self.http is None) == (self.tcp is None):
            yield Flaw((), "set one of http and tcp")
        if seconds(self.interval) < 0.1:
            yield Flaw(("interval",), "at least 100ms")
