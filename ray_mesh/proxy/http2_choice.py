"""Which HTTP/2 codec is used: libnghttp2 where it is installed, else the one in Python."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from importlib import import_module

from .http2_codec import EDGE_STREAMS, EDGE_WINDOW, SHARED_WINDOW, Codec, Sink

ENVIRONMENT = "RAY_MESH_HTTP2_CODEC"
"""``ngh2`` or ``python`` to have that one."""
_CODECS = {"ngh2": ("http2_ngh2", "Ngh2Codec", "ngh2"), "python": ("http2_pure", "PureCodec", "hpack")}
"""Module, class, and the package that it needs."""


def server_codec(sink: Sink) -> Codec:
    """The codec of a connection that a client opened."""
    return _chosen()(sink, is_client=False)


def edge_codec(sink: Sink) -> Codec:
    """The codec of a connection from outside the mesh."""
    return _chosen()(sink, is_client=False, window=EDGE_WINDOW, streams=EDGE_STREAMS)


def mesh_codec(sink: Sink) -> Codec:
    """The codec of a connection that another proxy opened."""
    return _chosen()(sink, is_client=False, window=SHARED_WINDOW)


def client_codec(sink: Sink) -> Codec:
    """The codec of a connection that we opened."""
    return _chosen()(sink, is_client=True, window=SHARED_WINDOW)


@cache
def _chosen() -> Callable[..., Codec]:
    """The class of codecs, looked up once. Raises RuntimeError for a choice that cannot be had."""
    wanted = os.environ.get(ENVIRONMENT, "")
    if wanted not in ("", *_CODECS):
        raise RuntimeError(f"{ENVIRONMENT} is {wanted!r}; it can be ngh2 or python")
    missing: list[str] = []
    for module, name, package in [_CODECS[wanted]] if wanted else _CODECS.values():
        try:
            found: Callable[..., Codec] = getattr(import_module(f".{module}", __package__), name)
        except ModuleNotFoundError as error:
            if error.name != package:
                raise
            missing.append(package)
        else:
            return found
    raise RuntimeError(f"HTTP/2 needs the Python package {' or '.join(missing)}, which is not installed")
