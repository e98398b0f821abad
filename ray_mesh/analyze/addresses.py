"""What Istio asks of ServiceEntries in files and this mesh does not: an address for each TCP port.

Callers of this mesh name the host, so nothing collides. Files that go to Istio too need it there, as its
annotations (:mod:`ray_mesh.analyze.annotations`) count there only.
"""

from __future__ import annotations

from collections.abc import Iterator

from ray_mesh.analyze.subject import Subject
from ray_mesh.compile import codes
from ray_mesh.compile.finding import Finding
from ray_mesh.resources import Document, ServiceEntrySpec

_MESSAGE = "ServiceEntry addresses are required for this protocol."
_FIX = "for Istio set spec.addresses, or a protocol other than TCP; for this mesh alone suppress it"


def address_findings(subject: Subject, document: Document | None) -> Iterator[Finding]:
    """Ports that are TCP, or that do not say what they are, of a ServiceEntry without addresses."""
    if document is None or not isinstance(document.spec, ServiceEntrySpec) or document.spec.addresses:
        return
    for index, port in enumerate(document.spec.ports):
        if port.protocol.upper() in ("", "TCP"):
            yield subject.find("warning", codes.ADDRESSES_REQUIRED, ("spec", "ports", index), _MESSAGE, _FIX)
