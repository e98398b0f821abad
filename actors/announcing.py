"""What the controller tells people: events, and the troubles of its actors while they last."""

from __future__ import annotations

import logging
import time
from typing import Literal

from ray_mesh.bus import messages, subjects
from ray_mesh.bus.client import Bus
from ray_mesh.bus.external import ExternalNats

log = logging.getLogger(__name__)


class Announcing:
    """Publishes on ``bus``, once there is one; until then only the log has it."""

    def __init__(self) -> None:
        self.bus: Bus | None = None
        self._troubles: dict[str, str] = {}

    def report(self, severity: Literal["info", "warning", "error"], reason: str, message: str) -> None:
        """Tell people something."""
        self.report_event(messages.Event(time.time(), severity, reason, message, "controller"))

    def report_event(self, event: messages.Event) -> None:
        """Tell people of an event."""
        log.warning("%s: %s", event.reason, event.message)
        if self.bus is not None:
            self.bus.publish(subjects.event("controller", self.bus.instance), messages.encode(event))

    def note_trouble(self, instance: str, trouble: str) -> None:
        """Tell people of what an actor cannot mend by itself, and when it is over."""
        before = self._troubles.pop(instance, "")
        if trouble:
            self._troubles[instance] = trouble
        if trouble and not before:
            self.report("error", "trouble", f"{instance}: {trouble}")
        elif before and not trouble:
            self.report("info", "trouble_over", f"{instance}: it is over that {before}")

    def forget(self, instance: str) -> None:
        """An actor is gone, and its trouble with it."""
        self._troubles.pop(instance, None)

    def problems(self) -> tuple[str, ...]:
        """The troubles of now, in sentences."""
        return tuple(f"{instance}: {trouble}" for instance, trouble in sorted(self._troubles.items()))

    def tell_shared(self, nats: ExternalNats | None) -> None:
        """A gateway that starts has heard no event yet."""
        for sentence in nats.shared() if nats else ():
            self.report("warning", "nats_shared", sentence)
