"""Which instances of a role are alive, by their heartbeats. Pure: time comes in as ``now``."""

from __future__ import annotations

from dataclasses import dataclass, field

HEARTBEAT_S = 0.5
LEASE_S = 2.0
"""An instance that was not heard of for this long is gone."""


@dataclass(slots=True)
class Membership:
    """The live instances of one role. ``always`` is an instance that never expires (oneself)."""

    always: str = ""
    lease_s: float = LEASE_S
    _heard_at: dict[str, float] = field(default_factory=dict)

    def heard(self, instance: str, now: float, leaving: bool = False) -> None:
        """A heartbeat came, or a farewell."""
        if leaving:
            self._heard_at.pop(instance, None)
        else:
            self._heard_at[instance] = now

    def live(self, now: float) -> tuple[str, ...]:
        """The live instances, sorted."""
        gone = [name for name, at in self._heard_at.items() if now - at >= self.lease_s]
        for name in gone:
            del self._heard_at[name]
        mine = {self.always} if self.always else set()
        return tuple(sorted(mine | self._heard_at.keys()))
