"""The first of several addresses that answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ray_mesh.proxy.eyeballs import first_of, interleaved


@pytest.mark.parametrize(
    ("found", "order"),
    [
        ((), ()),
        (("10.0.0.1",), ("10.0.0.1",)),
        (("10.0.0.1", "10.0.0.2", "::1", "::2"), ("10.0.0.1", "::1", "10.0.0.2", "::2")),
        (("::1", "::2", "10.0.0.1"), ("::1", "10.0.0.1", "::2")),
    ],
)
def test_both_kinds_take_turns(found: tuple[str, ...], order: tuple[str, ...]) -> None:
    assert interleaved(found) == order


class Ways:
    """Ways that succeed, fail or never end."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.given_up: list[str] = []

    def succeeds(self, name: str) -> Callable[[], Awaitable[str]]:
        async def way() -> str:
            self.begun.append(name)
            return name

        return way

    def fails(self, name: str) -> Callable[[], Awaitable[str]]:
        async def way() -> str:
            self.begun.append(name)
            raise OSError(name)

        return way

    def hangs(self, name: str) -> Callable[[], Awaitable[str]]:
        async def way() -> str:
            self.begun.append(name)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.given_up.append(name)
                raise
            return name

        return way


async def test_the_next_is_tried_at_once_when_one_fails() -> None:
    ways, dropped = Ways(), list[str]()
    tries = [ways.fails("a"), ways.succeeds("b"), ways.succeeds("c")]
    assert await first_of(tries, dropped.append, stagger_s=60.0) == "b"
    assert (ways.begun, dropped) == (["a", "b"], [])


async def test_the_next_is_tried_beside_one_that_does_not_answer() -> None:
    ways = Ways()
    assert await first_of([ways.hangs("a"), ways.succeeds("b")], lambda _: None, stagger_s=0.01) == "b"
    assert ways.given_up == ["a"]


async def test_when_none_answers_the_last_reason_is_told() -> None:
    ways = Ways()
    with pytest.raises(OSError, match="b"):
        await first_of([ways.fails("a"), ways.fails("b")], lambda _: None)


async def test_giving_up_gives_all_of_them_up() -> None:
    ways = Ways()
    task = asyncio.ensure_future(first_of([ways.hangs("a"), ways.hangs("b")], lambda _: None, stagger_s=0.0))
    while len(ways.begun) < 2:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(ways.given_up) == ["a", "b"]
