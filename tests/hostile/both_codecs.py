"""The fixture with which tests over sockets run on each codec of HTTP/2."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ray_mesh.proxy import http2_choice


@pytest.fixture(params=["ngh2", "python"])
def codec(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All connections that begin in the test have this codec."""
    monkeypatch.setenv(http2_choice.ENVIRONMENT, request.param)
    http2_choice._chosen.cache_clear()
    yield
    http2_choice._chosen.cache_clear()
