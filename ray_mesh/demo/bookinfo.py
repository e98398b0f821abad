"""Which instances Bookinfo consists of, and how each is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from aiohttp import web

from ray_mesh.demo import details, productpage, ratings, reviews
from ray_mesh.errors import ConfigError

if TYPE_CHECKING:
    import grpc.aio

HAS_GRPC = find_spec("grpc") is not None
"""Whether grpcio is installed (``ray-mesh[grpc]``); without it there are no recommendations."""

APPS: dict[str, Callable[[str], web.Application]] = {
    "details": details.app,
    "productpage": productpage.app,
    "ratings": ratings.app,
    "reviews": reviews.app,
}


@dataclass(frozen=True, slots=True)
class Instance:
    """One process of Bookinfo."""

    service: str
    version: str

    @property
    def name(self) -> str:
        """The workload's name, such as ``reviews-v2``."""
        return f"{self.service}-{self.version}"

    @property
    def service_account(self) -> str:
        """The identity that all versions of a service share, named as in Istio's sample."""
        return f"bookinfo-{self.service}"

    @property
    def labels(self) -> dict[str, str]:
        """Labels that services select by ``app`` and subsets by ``version``."""
        return {"app": self.service, "version": self.version}


INSTANCES = (
    Instance("ratings", "v1"),
    Instance("details", "v1"),
    Instance("details", "v2"),
    Instance("reviews", "v1"),
    Instance("reviews", "v2"),
    Instance("reviews", "v3"),
    *((Instance("recommendations", "v1"), Instance("recommendations", "v2")) if HAS_GRPC else ()),
    Instance("productpage", "v1"),
)
"""In the order of starting: who is called comes before who calls."""


def make_app(service: str, version: str) -> web.Application | grpc.aio.Server:
    """The app of one instance, which finds the other services by their names; a gRPC server, without a port.

    Raises:
        ConfigError: Bookinfo has no such instance.
    """
    if Instance(service, version) not in INSTANCES:
        known = ", ".join(instance.name for instance in INSTANCES)
        raise ConfigError(f"Bookinfo has no {service}-{version}; it has {known}")
    if service in APPS:
        return APPS[service](version)
    from ray_mesh.demo import recommendations

    return recommendations.server(version)
