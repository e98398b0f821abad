"""Istio's WorkloadEntry (networking.istio.io): an endpoint without a proxy of ours beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from ray_mesh import addresses
from ray_mesh.resources.schema import Flaw, LabelValue, Later, Model, PortNumber, is_subdomain

_UNIX = "unix://"
_PORT_NAME = re.compile(r"[a-zA-Z0-9](?:[-a-zA-Z0-9]{0,60}[a-zA-Z0-9])?")

_IDENTITY = Later("nothing proves an identity where there is no proxy")


class WorkloadEntrySpec(Model):
    """Where one program is. ``ports`` says under which number it serves a service's named port."""

    address: Annotated[str, Field(max_length=256)] | None = None
    ports: Annotated[dict[str, PortNumber], Field(max_length=128)] = {}
    labels: Annotated[dict[str, LabelValue], Field(max_length=256)] = {}
    network: Annotated[str | None, Later("all endpoints are in one network")] = None
    locality: Annotated[str, Field(pattern=r"^[^/*]+(/[^/*]+){0,2}$", max_length=256)] | None = None
    weight: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    service_account: Annotated[str | None, Field(max_length=253), _IDENTITY] = None

    def flaws(self) -> Iterator[Flaw]:
        if self.address is None:
            if "network" not in self.model_fields_set:
                yield Flaw(("address",), "Address is required")
            return
        for name in self.ports:
            if not _PORT_NAME.fullmatch(name):
                yield Flaw(("ports", name), f"{name!r} is not the name of a port")
        if self.address.startswith(_UNIX):
            yield from self._unix_flaws()
        elif addresses.parse(self.address) is None and not is_subdomain(self.address.lower()):
            yield Flaw(("address",), f"{self.address!r} is neither an IP address nor a host name")
        elif reason := addresses.why_unfit(self.address):
            yield Flaw(("address",), f"{self.address} is {reason}: no endpoint may have it")

    def _unix_flaws(self) -> Iterator[Flaw]:
        path = self.address.removeprefix(_UNIX) if self.address else ""
        if not path.startswith(("/", "@")):
            yield Flaw(("address",), "UDS must be an absolute path or abstract socket")
        if path.endswith("/"):
            yield Flaw(("address",), "UDS may not be a dir")
        if self.ports:
            yield Flaw(("ports",), "UDS may not include ports")
        yield Flaw(("address",), f"{self.address}: give an IP address", later=True)


class StandaloneEntrySpec(WorkloadEntrySpec):
    """A WorkloadEntry document: an address, since nothing says how its name would be resolved."""

    def flaws(self) -> Iterator[Flaw]:
        yield from super().flaws()
        if self.address and not self.address.startswith(_UNIX) and addresses.parse(self.address) is None:
            reason = f"{self.address}: give an IP address, or a ServiceEntry with resolution: DNS"
            yield Flaw(("address",), reason, later=True)
