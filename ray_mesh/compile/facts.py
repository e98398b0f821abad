"""What analysis may know beside the documents of a world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Facts:
    """``credentials`` are the secrets that there are, as ``namespace/name``, with what is wrong with each
    (empty: nothing); None where secrets are not known."""

    credentials: Mapping[str, str] | None = None


NOTHING_KNOWN = Facts()
