"""Istio's WorkloadEntry (networking.istio.io): an endpoint without a proxy of ours beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from ray_mesh import addresses
from ray_mesh.resources.host_names import is_host_name
from ray_mesh.resources.schema import Flaw, LabelName, LabelText, Later, Model, PortNumber

_UNIX = "unix://"
_PORT_NAME = re.compile(r"[a-zA-Z0-9](?:[-a-zA-Z0-9]{0,60}[a-zA-Z0-9])?")

_LOCALITY = re.compile(r"[^/*]+(/[^/*]+){0,2}")
_IDENTITY = Later("nothing proves an identity where there is no proxy")


class EntryTemplate(Model):
    """What entries of one group have in common. ``ports`` says under which number a program serves a
    service's named port."""

    address: Annotated[str, Field(max_length=256)] | None = None
    ports: Annotated[dict[str, PortNumber], Field(max_length=128)] = {}
    labels: Annotated[dict[LabelName, LabelText], Field(max_length=256)] = {}
    network: Annotated[str | None, Field(max_length=2048), Later("all endpoints are in one network")] = None
    locality: Annotated[str, Field(max_length=2048)] | None = None
    weight: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    service_account: Annotated[str | None, Field(max_length=253), _IDENTITY] = None

    def flaws(self) -> Iterator[Flaw]:
        for name in self.ports:
            if not _PORT_NAME.fullmatch(name):
                yield Flaw(("ports", name), f"{name!r} is not the name of a port")
        if self.locality and not _LOCALITY.fullmatch(self.locality):
            reason = f"{self.locality!r}: write region/zone/subzone, or less of it"
            yield Flaw(("locality",), reason, later=True)
        yield from self._address_flaws()

    def _address_flaws(self) -> Iterator[Flaw]:
        if not self.address:
            return
        if self.address.startswith(_UNIX):
            yield from self._unix_flaws()
        elif addresses.parse(self.address) is None and not is_host_name(self.address):
            yield Flaw(("address",), f"{self.address!r} is neither an IP address nor a host name")
        elif reason := addresses.why_unfit(self.address):
            yield Flaw(("address",), f"{self.address} is {reason}: no endpoint may have it")

    def _unix_flaws(self) -> Iterator[Flaw]:
        if message := unix_problem(self.address or ""):
            yield Flaw(("address",), message)
        if self.ports:
            yield Flaw(("ports",), "UDS may not include ports")
        yield Flaw(("address",), f"{self.address}: give an IP address", later=True)


def unix_problem(address: str) -> str:
    """What is wrong with an address ``unix://...``; empty when nothing is."""
    path = address.removeprefix(_UNIX)
    if path.startswith("@"):
        return ""
    if not path.startswith("/"):
        return "UDS must be an absolute path or abstract socket"
    return "UDS may not be a dir" if path.endswith("/") else ""


class WorkloadEntrySpec(EntryTemplate):
    """Where one program is."""

    def flaws(self) -> Iterator[Flaw]:
        if not self.address and not self.network:
            yield Flaw(("address",), "Address is required")
        yield from super().flaws()


class StandaloneEntrySpec(WorkloadEntrySpec):
    """A WorkloadEntry document: an address, since nothing says how its name would be resolved."""

    def flaws(self) -> Iterator[Flaw]:
        yield from super().flaws()
        if self.address and not self.address.startswith(_UNIX) and addresses.parse(self.address) is None:
            reason = f"{self.address}: give an IP address, or a ServiceEntry with resolution: DNS"
            yield Flaw(("address",), reason, later=True)
