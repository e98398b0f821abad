"""ReferenceGrant: who of another namespace may refer to objects of this one."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ray_mesh.resources.gateway_api.names import GroupName, KindName, ObjectName
from ray_mesh.resources.schema import DnsLabel, Model


class GrantFrom(Model):
    """A kind in a namespace that may refer."""

    group: GroupName
    kind: KindName
    namespace: DnsLabel


class GrantTo(Model):
    """A kind that may be referred to, or one object of it."""

    group: GroupName
    kind: KindName
    name: ObjectName | None = None


class ReferenceGrantSpec(Model):
    """Any of ``from`` may refer to any of ``to``."""

    from_: Annotated[tuple[GrantFrom, ...], Field(alias="from", min_length=1, max_length=16)]
    to: Annotated[tuple[GrantTo, ...], Field(min_length=1, max_length=16)]
