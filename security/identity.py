"""SPIFFE IDs (SPIFFE-ID specification, sections 2.1 to 2.4), read strictly.

The specification lets a reader fold the case of scheme and trust domain. This one refuses upper
case there instead, as go-spiffe does: two spellings of one identity are two chances to compare
them wrongly. Nothing is decoded or normalized, so an ID equals its text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ray_mesh.errors import ConfigError, PeerError

SCHEME = "spiffe://"
MAX_LENGTH = 2048
"""Bytes of a whole ID; every implementation must support this much and should not make more."""

_TRUST_DOMAIN = r"[a-z0-9._-]{1,255}"
_SEGMENT = r"(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+"
_ID = re.compile(rf"spiffe://({_TRUST_DOMAIN})((?:/{_SEGMENT})*)")
_ONE_SEGMENT = re.compile(_SEGMENT)


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """A valid SPIFFE ID. ``path`` is empty (the trust domain itself) or starts with ``/``.

    Raises:
        PeerError: the parts do not make a valid ID.
    """

    trust_domain: str
    path: str = ""

    def __post_init__(self) -> None:
        text = f"{SCHEME}{self.trust_domain}{self.path}"
        match = _match(text)
        if match.group(1) != self.trust_domain:
            raise PeerError(f"{_shown(self.trust_domain)} is not a SPIFFE trust domain")

    @classmethod
    def parse(cls, text: str) -> SpiffeId:
        """Read ``spiffe://<trust domain>/<path>``.

        Raises:
            PeerError: the text breaks a rule of the specification.
        """
        match = _match(text)
        return cls(match.group(1), match.group(2))

    def __str__(self) -> str:
        return f"{SCHEME}{self.trust_domain}{self.path}"

    @property
    def principal(self) -> str:
        """The ID without its scheme, as AuthorizationPolicy writes principals."""
        return f"{self.trust_domain}{self.path}"

    @property
    def namespace(self) -> str:
        """``ns`` of Istio's form ``/ns/<ns>/sa/<service account>``; empty for any other path."""
        return self._istio_form()[0]

    @property
    def service_account(self) -> str:
        """``sa`` of Istio's form ``/ns/<ns>/sa/<service account>``; empty for any other path."""
        return self._istio_form()[1]

    def _istio_form(self) -> tuple[str, str]:
        parts = self.path.split("/")
        if len(parts) == 5 and parts[1] == "ns" and parts[3] == "sa":
            return parts[2], parts[4]
        return "", ""


def for_workload(trust_domain: str, namespace: str, service_account: str) -> SpiffeId:
    """``spiffe://<trust domain>/ns/<namespace>/sa/<service account>``.

    Raises:
        ConfigError: a part cannot stand in a SPIFFE ID.
    """
    for name, value in (("namespace", namespace), ("service account", service_account)):
        if not _ONE_SEGMENT.fullmatch(value):
            raise ConfigError(f"{name} {_shown(value)} cannot stand in a SPIFFE ID: use A-Z a-z 0-9 . _ -")
    try:
        return SpiffeId(trust_domain, f"/ns/{namespace}/sa/{service_account}")
    except PeerError as error:
        raise ConfigError(f"no identity for {namespace}/{service_account}: {error}") from error


def _match(text: str) -> re.Match[str]:
    if len(text) > MAX_LENGTH:
        raise PeerError(f"a SPIFFE ID of {len(text)} characters is longer than {MAX_LENGTH}")
    match = _ID.fullmatch(text)
    if match is None:
        raise PeerError(f"{_shown(text)} is not a SPIFFE ID of the form spiffe://<trust domain>/<path>")
    return match


def _shown(text: str) -> str:
    return repr(text if len(text) <= 120 else text[:120] + "...")
