"""One message as the bus delivers it, and how an error travels in a reply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ray_mesh import errors
from ray_mesh.errors import MeshError

ERROR_HEADER = "Mesh-Error"
"""Header of a reply that carries an error: its reason word. The payload is the sentence."""
STATUS_HEADER = "Status"
"""Status line of a reply by the broker itself, such as 404."""
NOBODY = "503"
"""The broker's status when nobody hears a request."""

NO_HEADERS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Message:
    """One message as received. ``headers`` holds the broker's status under ``Status``."""

    subject: str
    data: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    reply: str = ""

    @property
    def status(self) -> str:
        """The broker's status, empty for a message of a role."""
        return self.headers.get(STATUS_HEADER, "")

    def raise_error(self) -> None:
        """Raise the error that a reply carries, if it carries one.

        Raises:
            MeshError: of the class that the handler raised, with its sentence.
        """
        reason = self.headers.get(ERROR_HEADER)
        if reason is not None:
            raise _KINDS.get(reason, MeshError)(self.data.decode("utf-8", "replace"))


_KINDS: dict[str, type[MeshError]] = {
    kind.reason: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, MeshError)
}
