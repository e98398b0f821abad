"""Istio's ProxyConfig (networking.istio.io): settings of the proxies of selected workloads."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ray_mesh.resources.schema import Model, WorkloadSelector


class ProxyImage(Model):
    """Which image the proxy is started from."""

    image_type: str = ""


class ProxyConfigSpec(Model):
    """How proxies are run; ``concurrency`` 0 means as many threads as cores."""

    selector: WorkloadSelector | None = None
    concurrency: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    environment_variables: dict[str, Annotated[str, Field(max_length=2048)]] = {}
    image: ProxyImage | None = None
