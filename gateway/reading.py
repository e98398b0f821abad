"""What requests to the API say: parameters and bodies, checked."""

from __future__ import annotations

import json
import math
from typing import Any

from aiohttp import web

from ray_mesh.errors import ConfigError
from ray_mesh.gateway.admission import NamedText

MOST_OF_A_NOTE = 512
MOST_UNPROVEN = 64 << 10
"""Bytes of a body from somebody whose token is not checked yet."""


def author(request: web.Request) -> str:
    """Who says they are asking: every caller has the same token, so this is a note, not a proof."""
    return request.headers.get("Mesh-Author", "api")[:128]


def comment(request: web.Request) -> str:
    """What they say of a change.

    Raises:
        ConfigError: it is too long.
    """
    said = request.query.get("comment", "")
    if len(said) > MOST_OF_A_NOTE:
        raise ConfigError(f"a comment has at most {MOST_OF_A_NOTE} characters, this one has {len(said)}")
    return said


def flag(request: web.Request, name: str) -> bool:
    """A parameter that is true or false, false when it is missing.

    Raises:
        ConfigError: it is neither.
    """
    value = request.query.get(name, "false").lower()
    if value not in ("true", "1", "false", "0"):
        raise ConfigError(f"{name} is {value!r}, expected true or false")
    return value in ("true", "1")


def number(request: web.Request, name: str, most: float, *, default: float | None) -> float:
    """A parameter from 0 to ``most``; without a default it must be there.

    Raises:
        ConfigError: it is no such number.
    """
    text = request.query.get(name)
    if text is None and default is not None:
        return default
    try:
        value = float(text or "")
    except ValueError:
        raise ConfigError(f"{name} is {text!r}, expected a number") from None
    if not math.isfinite(value) or not 0 <= value <= most:
        raise ConfigError(f"{name} is {text}, expected 0 to {most:g}")
    return value


async def sources(request: web.Request) -> list[NamedText]:
    """A YAML body, or named texts in a JSON body.

    Raises:
        ConfigError: it is neither.
    """
    if request.content_type != "application/json":
        return [NamedText(request.query.get("source", "request body"), await text(request))]
    body = await json_body(request)
    return named_texts(body.get("sources") if isinstance(body, dict) else None)


def named_texts(listed: object) -> list[NamedText]:
    """The ``sources`` of a JSON body.

    Raises:
        ConfigError: they are no list of names and texts.
    """
    if not isinstance(listed, list):
        raise ConfigError(
            'a JSON body is {"sources": [{"name": "a.yaml", "text": "..."}]}; send YAML as text'
        )
    for source in listed:
        if not isinstance(source, dict) or not all(isinstance(source.get(f), str) for f in ("name", "text")):
            raise ConfigError("each of sources has a name and a text")
    return [NamedText(source["name"], source["text"]) for source in listed]


async def json_body(request: web.Request) -> Any:
    """The body as JSON.

    Raises:
        ConfigError: it is not JSON.
    """
    return _parsed(await text(request))


async def small_json_body(request: web.Request) -> Any:
    """The body as JSON, of somebody who may be anybody.

    Raises:
        ConfigError: it is not JSON, or has more than :data:`MOST_UNPROVEN` bytes.
    """
    raw = bytearray()
    async for piece in request.content.iter_any():
        raw += piece
        if len(raw) > MOST_UNPROVEN:
            raise ConfigError(f"the body of this request has at most {MOST_UNPROVEN} bytes")
    return _parsed(_decoded(bytes(raw)))


async def text(request: web.Request) -> str:
    """The body as text.

    Raises:
        ConfigError: it is not UTF-8.
    """
    return _decoded(await request.read())


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"the body is not UTF-8 text: {error.reason}") from error


def _parsed(body: str) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the body is not JSON: {error}") from error
