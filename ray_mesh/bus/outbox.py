"""What was published and not sent yet: bounded, in order, the oldest dropped first. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

MAX_MESSAGES = 10_000
MAX_BYTES = 8 << 20


class Letter(NamedTuple):
    """One message to send."""

    subject: str
    payload: bytes
    headers: Mapping[str, str] | None


class Outbox:
    """A queue that forgets its oldest messages beyond a number of messages or bytes."""

    def __init__(self, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES) -> None:
        self._letters: deque[Letter] = deque()
        self._bytes = 0
        self._max_messages = max_messages
        self._max_bytes = max_bytes

    def __len__(self) -> int:
        return len(self._letters)

    def add(self, letter: Letter) -> int:
        """Queue a message; returns how many were dropped for it."""
        self._letters.append(letter)
        self._bytes += len(letter.payload)
        dropped = 0
        while len(self._letters) > self._max_messages or self._bytes > self._max_bytes:
            self.take()
            dropped += 1
        return dropped

    def take(self) -> Letter:
        """Remove the oldest message."""
        letter = self._letters.popleft()
        self._bytes -= len(letter.payload)
        return letter

    def put_back(self, letter: Letter) -> None:
        """Queue a message that could not be sent as the oldest again."""
        self._letters.appendleft(letter)
        self._bytes += len(letter.payload)
