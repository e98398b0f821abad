"""Requests that wait for their answers, each under a random token that nobody can guess."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from ray_mesh.bus.envelope import NOBODY, Message
from ray_mesh.errors import MeshError


@dataclass(slots=True, eq=False)
class Question:
    """One request. ``done`` gets all answers up to the one that ``is_last`` accepts, or an error."""

    subject: str
    is_last: Callable[[Message], bool]
    done: asyncio.Future[list[Message]]
    token: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    answers: list[Message] = field(default_factory=list)


class Questions:
    """The open requests of one bus."""

    def __init__(self) -> None:
        self._open: dict[str, Question] = {}

    def pose(self, subject: str, is_last: Callable[[Message], bool]) -> Question:
        """Open a request. Needs a running loop; close it with :meth:`drop`."""
        question = Question(subject, is_last, asyncio.get_running_loop().create_future())
        self._open[question.token] = question
        return question

    def drop(self, question: Question) -> None:
        """Close a request; answers that come later are ignored."""
        self._open.pop(question.token, None)
        if not question.done.done():
            question.done.cancel()
        elif not question.done.cancelled():
            # Mark an error as seen, should nobody have waited for it.
            question.done.exception()

    def answer(self, token: str, message: Message) -> None:
        """An answer has come; the last one completes the request."""
        question = self._open.get(token)
        if question is None or question.done.done():
            return
        question.answers.append(message)
        if message.status == NOBODY or question.is_last(message):
            question.done.set_result(question.answers)

    def fail(self, error: Callable[[Question], MeshError], lower_subject: str = "") -> None:
        """Fail all open requests, or those on a subject (given in lower case)."""
        for question in self._open.values():
            if lower_subject in ("", question.subject.lower()) and not question.done.done():
                question.done.set_exception(error(question))
