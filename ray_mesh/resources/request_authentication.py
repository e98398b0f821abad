"""Istio's RequestAuthentication (security.istio.io): which tokens requests may carry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from ray_mesh.resources.schema import Duration, Flaw, Model, NonEmpty
from ray_mesh.resources.target_ref import TargetedSpec

HeaderName = Annotated[str, Field(min_length=1, pattern=r"^[-_A-Za-z0-9]+$")]
Uri = Annotated[str, Field(min_length=1, max_length=2048)]


class JwtHeader(Model):
    """A header that carries the token, and what stands before it there."""

    name: NonEmpty
    prefix: str = ""


class ClaimToHeader(Model):
    """A claim that the workload gets as a header."""

    header: HeaderName
    claim: NonEmpty


class JwtRule(Model):
    """The tokens of one issuer: how they are verified, where they stand, what is passed on."""

    issuer: NonEmpty
    audiences: tuple[NonEmpty, ...] = ()
    jwks_uri: Uri | None = None
    jwks_uri_snake: Annotated[Uri | None, Field(alias="jwks_uri")] = None
    jwks: str | None = None
    from_headers: tuple[JwtHeader, ...] = ()
    from_params: tuple[NonEmpty, ...] = ()
    from_cookies: tuple[NonEmpty, ...] = ()
    output_payload_to_header: str = ""
    forward_original_token: bool = False
    output_claim_to_headers: tuple[ClaimToHeader, ...] = ()
    timeout: Duration = "5s"
    space_delimited_claims: Annotated[tuple[NonEmpty, ...], Field(max_length=64)] = ()
    presence: Literal["OPTIONAL", "REQUIRED"] | None = None
    """Of a newer Istio than the published schema."""

    def flaws(self) -> Iterator[Flaw]:
        if sum(one is not None for one in (self.jwks_uri, self.jwks_uri_snake, self.jwks)) > 1:
            yield Flaw((), "only one of jwks or jwksUri can be set")
        for name, uri in (("jwksUri", self.jwks_uri), ("jwks_uri", self.jwks_uri_snake)):
            if uri is not None and (message := _uri_problem(uri)):
                yield Flaw((name,), message)
        if self.jwks and (message := _jwks_problem(self.jwks)):
            yield Flaw(("jwks",), message)


class RequestAuthenticationSpec(TargetedSpec):
    """What a token has to be. A request without one passes; AuthorizationPolicies ask for identities."""

    jwt_rules: Annotated[tuple[JwtRule, ...], Field(max_length=4096)] = ()


def _uri_problem(uri: str) -> str:
    try:
        parts = urlsplit(uri)
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError as error:
        return f"{uri!r} is not a URL: {error}"
    if parts.scheme not in ("http", "https") or any(letter in uri for letter in "\\ \t\r\n"):
        return f"url must have scheme http:// or https://, not {uri!r}"
    return "" if parts.hostname else f"{uri!r} names no host"


def _jwks_problem(text: str) -> str:
    try:
        keys: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"not a JSON Web Key Set: {error}"
    if not isinstance(keys, dict):
        return "a JSON Web Key Set is a map"
    listed = keys.get("keys", [keys] if "kty" in keys else None)
    if not isinstance(listed, list):
        return "a JSON Web Key Set has keys, a list"
    if not all(isinstance(key, dict) and isinstance(key.get("kty"), str) for key in listed):
        return "each key of a JSON Web Key Set says its kty"
    return ""
