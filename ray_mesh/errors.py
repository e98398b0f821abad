"""Every error the mesh raises, by who is at fault.

Each class carries a stable ``reason``, the word used in metrics, events and API bodies, and the
HTTP status that the API answers with. Messages say what is wrong, where, and what to do.
"""

from __future__ import annotations


class MeshError(Exception):
    """Root of all errors of the mesh."""

    reason = "internal"
    status = 500


class ConfigError(MeshError):
    """A document, option or argument that a person wrote cannot be used.

    ``findings`` holds what the analyzer said, one map of strings each, where it was asked.
    """

    reason = "invalid_config"
    status = 422
    findings: tuple[dict[str, str], ...] = ()


class NotSupported(ConfigError):
    """Valid configuration that this build does not enforce, refused by name."""

    reason = "not_supported"


class Rejected(ConfigError):
    """A proxy refuses compiled configuration; it keeps what it had."""

    reason = "rejected"


class Conflict(MeshError):
    """Somebody else wrote the same object first (compare-and-set failed)."""

    reason = "conflict"
    status = 409


class NotFound(MeshError):
    """The object that was asked for does not exist."""

    reason = "not_found"
    status = 404


class PolicyDenied(MeshError):
    """A policy or a missing right refuses the action."""

    reason = "denied"
    status = 403


class Unauthenticated(MeshError):
    """The caller did not prove who it is."""

    reason = "unauthenticated"
    status = 401


class Unavailable(MeshError):
    """A part of the mesh that is needed did not answer in time."""

    reason = "unavailable"
    status = 503


class PeerError(MeshError):
    """The other side broke a protocol: a bad message, signature, certificate or frame."""

    reason = "peer_error"
    status = 502
