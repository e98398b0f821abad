"""A small mesh of PolicyActors and proxies in one process, driven by Hypothesis."""

from __future__ import annotations

from collections import Counter
from math import floor

from hypothesis import given, settings
from hypothesis import strategies as st

from ray_mesh.membership import Membership
from ray_mesh.quota import SETTLE_S, LeaseBucket, QuotaBook
from ray_mesh.rendezvous import owner

LIMIT = "default/limit"
STEP_S = 0.05


class World:
    """Actors that come, go and pause, heard of by heartbeats, and proxies that spend what they get."""

    def __init__(self, requests: int, per_s: int, proxies: int) -> None:
        self.now = 5_000.0
        self.requests = requests
        self.per_s = per_s
        self.books: dict[str, QuotaBook] = {}
        self.paused: set[str] = set()
        self.heard = Membership()
        self.buckets = {f"p{n}": LeaseBucket(requests, per_s, "CLOSED") for n in range(proxies)}
        self.admitted: Counter[int] = Counter()

    def tick(self, attempts: int) -> None:
        """One poll: heartbeats, questions and answers, requests."""
        self.now += STEP_S
        running = self.books.keys() - self.paused
        for name in running:
            self.heard.heard(name, self.now)
        for name in running:
            self.books[name].observe(self.heard.live(self.now), self.now)
        for proxy, bucket in self.buckets.items():
            self._ask(proxy, bucket)
            for _ in range(attempts):
                if bucket.take(self.now):
                    self.admitted[floor(self.now / self.per_s + 1e-9)] += 1

    def start(self, name: str) -> None:
        """A new process under an old or new name."""
        self.books.setdefault(name, QuotaBook(name, self.now))

    def stop(self, name: str) -> None:
        """A clean end: the others hear of it at once."""
        self.books.pop(name, None)
        self.paused.discard(name)
        self.heard.heard(name, self.now, leaving=True)

    def _ask(self, proxy: str, bucket: LeaseBucket) -> None:
        wanted, live = bucket.demand(self.now), self.heard.live(self.now)
        answering = owner(LIMIT, live) if live else ""
        if not wanted or answering not in self.books.keys() - self.paused:
            return
        book = self.books[answering]
        grant = book.grant(LIMIT, self.requests, self.per_s, wanted, proxy, self.now)
        book.validate()
        if not grant.error:
            bucket.grant(grant.granted, self.now + grant.expires_in_s, self.now)


changes = st.lists(
    st.tuples(
        st.sampled_from(["start", "stop", "pause", "resume", "stay"]),
        st.sampled_from(["a", "b", "c"]),
        st.integers(1, 90),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=15,
)


@settings(max_examples=150, deadline=None)
@given(changes, st.integers(1, 40), st.integers(1, 4), st.sampled_from([1, 2, 5]))
def test_no_window_admits_more_than_the_limit(
    steps: list[tuple[str, str, int, int]], requests: int, proxies: int, per_s: int
) -> None:
    world = World(requests, per_s, proxies)
    for change, name, ticks, attempts in steps:
        if change == "start":
            world.start(name)
        elif change == "stop":
            world.stop(name)
        elif change == "pause" and name in world.books:
            world.paused.add(name)
        elif change == "resume":
            world.paused.discard(name)
        for _ in range(ticks):
            world.tick(attempts)
    assert all(count <= requests for count in world.admitted.values()), world.admitted


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.sampled_from([1, 2]), st.booleans())
def test_an_owner_that_ends_at_any_moment_is_followed_without_excess(
    ends: int, pause: int, per_s: int, comes_back: bool
) -> None:
    world = World(10, per_s, 2)
    for name in ("a", "b"):
        world.start(name)
    for _ in range(round((SETTLE_S + 3) / STEP_S) + ends):
        world.tick(3)
    first = owner(LIMIT, ("a", "b"))
    if comes_back:
        world.paused.add(first)
    else:
        world.stop(first)
    for _ in range(pause):
        world.tick(3)
    world.paused.clear()
    for _ in range(round(3 / STEP_S)):
        world.tick(3)
    assert max(world.admitted.values()) == 10


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 40), st.integers(1, 3))
def test_a_calm_mesh_admits_all_that_the_limit_allows(requests: int, proxies: int) -> None:
    world = World(requests, 1, proxies)
    world.start("a")
    for _ in range(round((SETTLE_S + 6) / STEP_S)):
        world.tick(attempts=3)
    last_whole = floor(world.now) - 1
    assert world.admitted[last_whole] >= min(requests, 20 * 3 * proxies) * 0.8
