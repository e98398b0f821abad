"""An explanation in the making."""

from __future__ import annotations

from dataclasses import dataclass, field

from ray_mesh.explain.answer import Share, Step, Verdict


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
