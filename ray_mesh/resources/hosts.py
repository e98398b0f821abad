"""Host names and patterns: how short names resolve and which pattern is more specific.

A host without a dot, ``name.namespace`` and ``name.namespace.svc`` mean services of the mesh. A
pattern is a host, ``*.suffix`` or ``*``.
"""

from __future__ import annotations

SERVICE_SUFFIX = ".svc.cluster.local"
MESH_GATEWAY = "mesh"


def service_host(namespace: str, name: str) -> str:
    """The full host of a service."""
    return f"{name}.{namespace}{SERVICE_SUFFIX}"


def full_host(host: str, namespace: str) -> str:
    """The full form of a host that a document of ``namespace`` names, in lower case.

    ``reviews`` means the document's own namespace; ``reviews.prod`` and ``reviews.prod.svc`` say it.
    Other names and patterns stay as they are.
    """
    host = host.lower()
    if "*" in host:
        return host
    parts = host.split(".")
    if len(parts) == 1:
        return service_host(namespace, host)
    if len(parts) == 2 or (len(parts) == 3 and parts[2] == "svc"):
        return service_host(parts[1], parts[0])
    return host


def meanings(host: str, namespace: str) -> tuple[str, ...]:
    """The full hosts that a host may mean in a document of ``namespace``, the first one first.

    ``example.com`` is the service ``example`` of namespace ``com`` where there is one, and itself where
    a ServiceEntry has it.
    """
    full = full_host(host, namespace)
    return (full, host.lower()) if host.count(".") == 1 and "*" not in host else (full,)


def entry_host(host: str, namespace: str) -> str:
    """The full form of a host of a ServiceEntry: as it is, unless it names a service of the mesh."""
    host = host.lower()
    parts = host.split(".")
    is_service = len(parts) == 1 or (len(parts) == 3 and parts[2] == "svc")
    return full_host(host, namespace) if is_service or parts[1:] == [namespace] else host


def is_of_mesh(host: str) -> bool:
    """Whether a full host has the form of a service's."""
    return host.endswith(SERVICE_SUFFIX)


def gateway_host(host: str, namespace: str) -> str:
    """As :func:`full_host`, for traffic from outside: ``example.com`` is a site, not a service."""
    return full_host(host, namespace) if "." not in host else host.lower()


def pattern_covers(pattern: str, host: str) -> bool:
    """Whether every host that ``host`` means is one that ``pattern`` means."""
    if pattern == "*":
        return True
    if pattern.startswith("*"):
        return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1
    return pattern == host


def specificity(pattern: str) -> tuple[bool, int]:
    """Orders patterns: an exact host above all wildcards, longer above shorter."""
    return (not pattern.startswith("*"), len(pattern))


def resolve_gateway(name: str, namespace: str) -> str:
    """``namespace/name`` of a gateway that a document of ``namespace`` names; ``mesh`` stays."""
    if name == MESH_GATEWAY:
        return name
    owner, slash, rest = name.partition("/")
    if not slash:
        return f"{namespace}/{name}"
    return f"{namespace if owner == '.' else owner}/{rest}"
