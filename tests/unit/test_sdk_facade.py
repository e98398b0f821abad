"""The sync facade and the asyncio client are one interface."""

from __future__ import annotations

import inspect
import threading

import pytest

from ray_mesh.errors import Unavailable
from ray_mesh.sdk.background import BackgroundLoop
from ray_mesh.sdk.client import AsyncMesh
from ray_mesh.sdk.facade import Mesh


def public(cls: type) -> dict[str, object]:
    return {
        name: member
        for name, member in inspect.getmembers_static(cls)
        if callable(getattr(cls, name)) and not name.startswith("_")
    }


def as_sync(annotation: object) -> str:
    return str(annotation).replace("Async", "")


def test_both_have_the_same_methods() -> None:
    assert public(Mesh).keys() == public(AsyncMesh).keys()


@pytest.mark.parametrize("name", sorted(public(AsyncMesh)))
def test_signatures_are_the_same(name: str) -> None:
    sync = inspect.signature(getattr(Mesh, name))
    asynchronous = inspect.signature(getattr(AsyncMesh, name))
    assert list(sync.parameters.values()) == list(asynchronous.parameters.values())
    assert as_sync(sync.return_annotation) == as_sync(asynchronous.return_annotation)
    assert getattr(Mesh, name).__doc__


def test_a_background_loop_runs_and_ends() -> None:
    loop = BackgroundLoop("test")

    async def where() -> str:
        return threading.current_thread().name

    async def fail() -> None:
        raise Unavailable("on purpose")

    assert loop.run(where()) == "test"
    with pytest.raises(Unavailable, match="on purpose"):
        loop.run(fail())
    loop.close()
    loop.close()
    assert not loop.is_open
    with pytest.raises(Unavailable, match="closed"):
        loop.run(where())
