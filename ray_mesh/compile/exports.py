"""``exportTo``: the namespaces whose callers know a document. A rule of routing, not of secrecy."""

from __future__ import annotations

from ray_mesh.resources import (
    DestinationRuleSpec,
    Document,
    MeshConfigSpec,
    ServiceEntrySpec,
    ServiceSpec,
    VirtualServiceSpec,
)
from ray_mesh.resources.exports import EVERYONE, NOBODY, OWN, service_exports
from ray_mesh.snapshot import EXPORTED_TO_NOBODY, is_exported

PUBLIC: tuple[str, ...] = ()


def exported_to(config: MeshConfigSpec, document: Document) -> tuple[str, ...]:
    """The namespaces that a document is exported to, sorted; none of them means all."""
    written = _written(config, document)
    if not written or EVERYONE in written:
        return PUBLIC
    if NOBODY in written:
        return (EXPORTED_TO_NOBODY,)
    return tuple(sorted({document.namespace if one == OWN else one for one in written}))


def is_private(document: Document, exports: tuple[str, ...]) -> bool:
    """Whether no namespace but its own knows a document."""
    return exports in ((document.namespace,), (EXPORTED_TO_NOBODY,))


def sees(config: MeshConfigSpec, namespace: str, document: Document) -> bool:
    """Whether callers in a namespace know a document."""
    return is_exported(exported_to(config, document), namespace)


def _written(config: MeshConfigSpec, document: Document) -> tuple[str, ...]:
    match document.spec:
        case ServiceSpec():
            return service_exports(document.annotations) or config.default_service_export_to
        case ServiceEntrySpec(export_to=said):
            return said or config.default_service_export_to
        case VirtualServiceSpec(export_to=said):
            return said or config.default_virtual_service_export_to
        case DestinationRuleSpec(export_to=said):
            return said or config.default_destination_rule_export_to
    return ()
