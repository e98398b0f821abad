"""The ExternalAuth filter: checked, and not honoured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from ray_mesh.resources.gateway_api.references import BackendObjectReference
from ray_mesh.resources.schema import Flaw, Model

_PATH = r"^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$"
_Headers = Annotated[tuple[str, ...], Field(max_length=64)]


class GrpcAuth(Model):
    """What a gRPC server is told."""

    allowed_headers: _Headers = ()


class HttpAuth(Model):
    """What an HTTP server is told, and what of its answer goes on."""

    path: Annotated[str, Field(max_length=1024, pattern=_PATH)] | None = None
    allowed_headers: _Headers = ()
    allowed_response_headers: _Headers = ()


class ForwardBody(Model):
    """How much of the body it is told."""

    max_size: Annotated[int, Field(ge=0, lt=2**16)] = 0


class ExternalAuth(Model):
    """Who is asked."""

    protocol: Literal["HTTP", "GRPC"]
    backend_ref: BackendObjectReference
    grpc: GrpcAuth | None = None
    http: HttpAuth | None = None
    forward_body: ForwardBody | None = None

    def flaws(self) -> Iterator[Flaw]:
        for protocol, field in (("GRPC", "grpc"), ("HTTP", "http")):
            is_set = getattr(self, field) is not None
            if self.protocol == protocol and not is_set:
                yield Flaw((field,), f"{field} must be specified when protocol is set to '{protocol}'")
            elif self.protocol != protocol and is_set:
                yield Flaw((field,), f"protocol must be '{protocol}' when {field} is set")
