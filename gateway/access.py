"""Who may use the API: holders of the token, under one of the names that the API has.

Sidecars are no administrators: a few paths take their own proof instead, and nothing else.

The Host header is checked because a web page can point a name of its own at 127.0.0.1 (DNS
rebinding) and would then be of the same origin as the API. There is no CORS for the same reason.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Middleware

from ray_mesh.errors import ConfigError, MeshError, NotFound, PolicyDenied, Unauthenticated

log = logging.getLogger(__name__)

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
"""What the API is called on its own machine."""
OPEN_PATHS = frozenset({"/healthz"})
SIDECAR_PATHS = frozenset({"/v1/join", "/v1/sidecar", "/v1/sidecar/attest", "/v1/sidecar/workload"})
"""Paths whose handlers ask for a join token or a sidecar's session instead of the admin token."""
SECURE_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def check_host(host: str, port: int, names: Collection[str] = LOOPBACK_NAMES) -> None:
    """Refuse a Host header that is none of the API's ``names`` with its port.

    Raises:
        PolicyDenied: it is another name or port.
    """
    allowed = [f"{name}:{port}" for name in names]
    if port in (80, 443):
        allowed += names
    if host.lower() not in allowed:
        raise PolicyDenied(f"the API does not answer as {host!r:.80}: it is {' or '.join(allowed)}")


def check_token(authorization: str, token_sha256: bytes) -> None:
    """Refuse a request whose ``Authorization`` header is not the bearer token.

    Raises:
        Unauthenticated: the token is missing or another one.
    """
    scheme, _, token = authorization.partition(" ")
    digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
    if not hmac.compare_digest(digest, token_sha256) or scheme.lower() != "bearer":
        raise Unauthenticated(
            "the API needs the mesh's bearer token: it is in the state file that `ray-mesh up` wrote"
        )


def guard(
    token_sha256: bytes, port: Callable[[], int], names: Collection[str] = LOOPBACK_NAMES
) -> Middleware:
    """The middleware that lets through who may, and answers errors as JSON."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            check_host(request.headers.get("Host", ""), port(), names)
            if request.path not in OPEN_PATHS | SIDECAR_PATHS:
                check_token(request.headers.get("Authorization", ""), token_sha256)
            response = await handler(request)
        except MeshError as error:
            response = answer_error(error)
        except web.HTTPException as error:
            response = answer_error(_of_http(error), error.status)
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            response = answer_error(MeshError("the gateway failed; its log says why"))
        response.headers.update(SECURE_HEADERS)
        return response

    return check


def answer_error(error: MeshError, status: int = 0) -> web.Response:
    """``{"error": <reason>, "message": <sentence>, "findings": [...]}`` with the error's status."""
    body: dict[str, Any] = {"error": error.reason, "message": str(error)}
    if isinstance(error, ConfigError) and error.findings:
        body["findings"] = error.findings
    headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, Unauthenticated) else {}
    return answer(body, status or error.status, headers)


def answer(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON response."""
    return web.Response(
        text=json.dumps(body), status=status, content_type="application/json", headers=headers
    )


def _of_http(error: web.HTTPException) -> MeshError:
    if error.status == 404:
        return NotFound("the API has no such path")
    return ConfigError(f"{error.reason}{_hint(error)}")


def _hint(error: web.HTTPException) -> str:
    if isinstance(error, web.HTTPMethodNotAllowed):
        return f": this path takes {', '.join(sorted(error.allowed_methods))}"
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return ": split the set into smaller ones"
    return ""
