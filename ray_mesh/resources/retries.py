"""When a route of a VirtualService tries again."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from http import HTTPStatus
from typing import Annotated

from pydantic import Field

from ray_mesh.resources.schema import Duration, Flaw, Model

RETRY_WORDS = (
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "refused-stream",
    "retriable-4xx",
    "retriable-status-codes",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
)
_RETRY_LATER = {
    "retriable-headers": "no field names the headers",
    "envoy-ratelimited": "a rate limit of the mesh answers 429, which may be named as a status",
    "http3-post-connect-failure": "nothing speaks HTTP/3",
}
_STATUSES = frozenset(str(status.value) for status in HTTPStatus)


def split_words(text: str) -> tuple[str, ...]:
    """The conditions of a ``retryOn``."""
    return tuple(word for word in (part.strip() for part in text.split(",")) if word)


class Retries(Model):
    """When and how often to try again."""

    attempts: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    per_try_timeout: Duration | None = None
    retry_on: str | None = None
    retry_remote_localities: bool | None = None
    retry_ignore_previous_hosts: bool | None = None
    backoff: Duration | None = None

    @property
    def lacks_statuses(self) -> bool:
        """Whether it asks for retries by status and names none, which Istio accepts and does not retry."""
        words = split_words(self.retry_on or "")
        return "retriable-status-codes" in words and not any(word in _STATUSES for word in words)

    def flaws(self) -> Iterator[Flaw]:
        for word in map(str.strip, self.retry_on.split(",")) if self.retry_on else ():
            if word in _RETRY_LATER:
                yield Flaw(("retryOn",), f"{word}: {_RETRY_LATER[word]}", later=True)
            elif not (word in RETRY_WORDS or word in _STATUSES):
                close = get_close_matches(word, RETRY_WORDS, 1, 0.75)
                known = f"did you mean {close[0]}?" if close else f"one of {', '.join(RETRY_WORDS)}"
                yield Flaw(("retryOn",), f"{word!r} is no condition: write a status, or {known}")
        remote = self.retry_remote_localities is not None
        if not self.attempts and (self.per_try_timeout or self.retry_on or remote):
            yield Flaw(("attempts",), "0 (or none) means no retries, and then nothing else is set")
