"""An explanation in the making."""

from __future__ import annotations

from dataclasses import dataclass, field

from ray_mesh.explain.answer import Share, Step, Verdict
from ray_mesh.explain.hosts import Meaning
from ray_mesh.proxy.passing import PASSTHROUGH


@dataclass(slots=True)
class Way:
    """The steps so far; ``verdict`` is there once it has ended."""

    steps: list[Step] = field(default_factory=list)
    shares: tuple[Share, ...] = ()
    verdict: Verdict | None = None

    def add(self, step: Step) -> None:
        """The next step."""
        self.steps.append(step)

    def end(self, verdict: Verdict) -> Way:
        """It ends so."""
        self.verdict = verdict
        return self


def pass_on(way: Way, meaning: Meaning) -> Way:
    """A host that nobody has declared is called as it is."""
    endpoint = f"{meaning.name}:{meaning.port}"
    step = Step("endpoints", f"{endpoint}, without TLS and policies of the mesh", meaning.step.ground)
    verdict = Verdict("forwarded", f"passed on to {endpoint}", ground=meaning.step.ground)
    way.shares = (Share(PASSTHROUGH, "", meaning.port, 100.0, (endpoint,), (step,), verdict),)
    return way.end(verdict)
