"""Every NATS subject, stream and bucket of the mesh, in one place (documented in docs/wire.md).

Names in subjects (proxy, role instance, node, namespace, workload) are single tokens: letters,
digits, ``-`` and ``_``. :func:`token` refuses everything else, so that no name can widen a subject.
"""

from __future__ import annotations

import re

from ray_mesh.errors import ConfigError

ROOT = "mesh.v1"

DESIRED_BUCKET = "mesh-desired"
"""What people wrote: signed documents, key ``<kind>.<namespace>.<name>`` (kind in lower case)."""

SHARED_BUCKET = "mesh-shared"
"""Compiled ``service``, ``endpoints`` and ``mesh`` resources, key as in :mod:`ray_mesh.snapshot`."""

PRIVATE_BUCKET = "mesh-private"
"""Compiled ``node``, ``workload`` and ``gateway`` resources, key ``<node>.<snapshot key>``."""

BUCKETS = (DESIRED_BUCKET, SHARED_BUCKET, PRIVATE_BUCKET)

CSR_QUEUE = "ca"
"""Queue group of the CA replicas."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}")


def token(name: str) -> str:
    """``name`` unchanged if it can be one token of a subject.

    Raises:
        ConfigError: it is empty, longer than 128, or has a character outside ``[A-Za-z0-9_-]``.
    """
    if not _TOKEN.fullmatch(name):
        raise ConfigError(f"{name!r} cannot name a part of the mesh: use 1 to 128 of A-Z a-z 0-9 _ -")
    return name


def stream(bucket: str) -> str:
    """The JetStream stream behind a KV bucket."""
    return f"KV_{bucket}"


def stored(bucket: str, key: str) -> str:
    """The subject under which a bucket stores a key (written, and read by Direct Get, never followed)."""
    return f"$KV.{bucket}.{key}"


def republished(bucket: str, key: str) -> str:
    """The subject on which committed writes of a key are heard. ``key`` may end in ``>``."""
    return f"{ROOT}.{bucket.removeprefix('mesh-')}.{key}"


def direct_get(bucket: str, key: str) -> str:
    """The Direct Get request subject of one key. ``key`` may end in ``>`` in a permission."""
    return f"$JS.API.DIRECT.GET.{stream(bucket)}.{stored(bucket, key)}"


def inbox(role: str, instance: str) -> str:
    """The private inbox prefix of one connection."""
    return f"_INBOX.{token(role)}.{token(instance)}"


def beacon(shard: str) -> str:
    """A RoutingActor's signed statement of what it has compiled (:class:`messages.Beacon`)."""
    return f"{ROOT}.beacon.{token(shard)}"


def lease(proxy: str) -> str:
    """A proxy's heartbeat: what it serves and has applied (:class:`messages.ProxyLease`)."""
    return f"{ROOT}.lease.{token(proxy)}"


def ack(proxy: str) -> str:
    """What a proxy has applied, as soon as it has (:class:`messages.Acknowledgement`)."""
    return f"{ROOT}.ack.{token(proxy)}"


def role(name: str, instance: str) -> str:
    """A control role's heartbeat (:class:`messages.RoleLease`)."""
    return f"{ROOT}.role.{token(name)}.{token(instance)}"


def telemetry(proxy: str) -> str:
    """A proxy's cumulative totals, each second (:class:`messages.TelemetryReport`)."""
    return f"{ROOT}.telemetry.{token(proxy)}"


def csr(proxy: str) -> str:
    """Certificate requests of one proxy, answered by the CA (:class:`messages.CsrRequest`)."""
    return f"{ROOT}.csr.{token(proxy)}"


def quota(policy: str, proxy: str) -> str:
    """Quota requests of one proxy to one PolicyActor (:class:`messages.QuotaRequest`)."""
    return f"{ROOT}.quota.{token(policy)}.{token(proxy)}"


def reserve(node: str) -> str:
    """Asks one proxy of a node to bind ports for a new workload (:class:`messages.ReserveRequest`)."""
    return f"{ROOT}.reserve.{token(node)}"


def query(telemetry_instance: str) -> str:
    """Asks one TelemetryActor for its edges (:class:`messages.EdgesRequest`)."""
    return f"{ROOT}.query.{token(telemetry_instance)}"


def control(verb: str) -> str:
    """Asks the MeshController (:class:`messages.ControlRequest`)."""
    return f"{ROOT}.control.{token(verb)}"


def event(role_name: str, instance: str) -> str:
    """Something a person should know (:class:`messages.Event`)."""
    return f"{ROOT}.event.{token(role_name)}.{token(instance)}"


def every(family: str, *names: str) -> str:
    """All subjects of a family that end in one name more, such as ``lease`` or ``role``, ``policy``."""
    return ".".join((ROOT, token(family), *map(token, names), "*"))


def last_token(subject: str) -> str:
    """The last token of a subject: who sent it, as the broker's permissions guarantee."""
    return subject.rsplit(".", 1)[-1]
