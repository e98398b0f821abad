"""What a served application should be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ray_mesh.errors import ConfigError

MOST_REPLICAS = 1000


@dataclass(frozen=True, slots=True)
class ServePlan:
    """``replicas`` copies of one application as workloads of a service.

    ``health_path`` is asked on each copy; a copy that answers with 400 or more, or not, several times in
    a row is replaced. ``num_cpus`` is what Ray reserves for each. ``drain_s`` is what requests under way
    get at the end.

    Raises:
        ConfigError: a number or the path makes no sense.
    """

    service: str
    version: str
    replicas: int = 1
    namespace: str = "default"
    service_account: str = "default"
    labels: Mapping[str, str] = field(default_factory=dict)
    health_path: str = ""
    num_cpus: float = 0.0
    drain_s: float = 10.0

    def __post_init__(self) -> None:
        check_replicas(self.replicas)
        if self.health_path and not self.health_path.startswith("/"):
            raise ConfigError(f"health_path {self.health_path!r} must begin with /")
        if self.num_cpus < 0 or self.drain_s < 0:
            raise ConfigError("num_cpus and drain_s cannot be negative")

    @property
    def name(self) -> str:
        """Of the application; its copies add a number."""
        return f"{self.service}-{self.version}"

    @property
    def keeper(self) -> str:
        """The name of the actor that keeps it."""
        return f"keeper-{self.namespace}-{self.name}"


def check_replicas(count: int) -> None:
    """Raise ConfigError for a number of copies that cannot be."""
    if not 1 <= count <= MOST_REPLICAS:
        raise ConfigError(f"replicas must be 1 to {MOST_REPLICAS}, not {count}")


def count_of(application: str, workloads: Iterable[str]) -> int:
    """How many copies an application had, by the names of the workloads that are attached; 0 if none is."""
    prefix = f"{application}-"
    numbers = [name.removeprefix(prefix) for name in workloads if name.startswith(prefix)]
    return max((int(number) + 1 for number in numbers if number.isdecimal()), default=0)
