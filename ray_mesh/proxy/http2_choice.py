"""Which HTTP/2 codec is used: libnghttp2 where it is installed, else the one in Python."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from importlib import import_module

from .http2_codec import Codec, Sink

ENVIRONMENT = "RAY_MESH_HTTP2_CODEC"
"""``ngh2`` or ``h2`` to have that one."""
_MODULES = {"ngh2": ("http2_ngh2", "Ngh2Codec"), "h2": ("http2_pure", "PureCodec")}


def server_codec(sink: Sink) -> Codec:
    """The codec of a connection that a client opened."""
    return _chosen()(sink, is_client=False)


def client_codec(sink: Sink) -> Codec:
    """The codec of a connection that we opened."""
    return _chosen()(sink, is_client=True)


@cache
def _chosen() -> Callable[..., Codec]:
    """The class of codecs, looked up once. Raises RuntimeError for a choice that cannot be had."""
    wanted = os.environ.get(ENVIRONMENT, "")
    if wanted not in ("", *_MODULES):
        raise RuntimeError(f"{ENVIRONMENT} is {wanted!r}; it can be ngh2 or h2")
    for package in (wanted,) if wanted else _MODULES:
        try:
            return _load(package)
        except ModuleNotFoundError as error:
            if error.name != package:
                raise
    raise RuntimeError(f"HTTP/2 needs the Python package {wanted or 'ngh2 or h2'}, which is not installed")


def _load(package: str) -> Callable[..., Codec]:
    module, name = _MODULES[package]
    found: Callable[..., Codec] = getattr(import_module(f".{module}", __package__), name)
    return found
