"""``wait`` is exact: whenever the view says "applied", every live proxy really has the revision.

A small mesh runs here as plain objects: documents of one key each, shards that own keys by rendezvous
hashing over the members they know, proxies that apply whole beacons, and a view that hears some of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from ray_mesh.bus.messages import Beacon, ProxyLease, RoleLease
from ray_mesh.gateway.view import MeshView
from ray_mesh.rendezvous import owner

KEYS = ("service.default.a", "service.default.b", "service.default.c")
SHARDS = ("r0", "r1", "r2")
PROXIES = ("p0", "p1")


@dataclass
class Shard:
    world: int = 0
    members: tuple[str, ...] = ()
    number: int = 0
    alive: bool = True


@dataclass
class Proxy:
    state: dict[str, int] = field(default_factory=dict)
    applied: dict[str, int] = field(default_factory=dict)
    read: int = 0


@dataclass
class SmallMesh:
    """Ground truth beside the view. ``written[r]`` is the key that revision ``r`` changed."""

    now: float = 100.0
    written: list[str] = field(default_factory=lambda: ["mesh"])
    compiled: dict[str, int] = field(default_factory=dict)
    shards: dict[str, Shard] = field(default_factory=lambda: {name: Shard() for name in SHARDS})
    proxies: dict[str, Proxy] = field(default_factory=lambda: {name: Proxy() for name in PROXIES})
    sent: list[tuple[Beacon, dict[str, int]]] = field(default_factory=list)
    view: MeshView = field(default_factory=lambda: MeshView(0.0))

    def write(self, key: str) -> None:
        self.written.append(key)

    def compile(self, name: str, *, heard: bool) -> None:
        """A shard reads the world, compiles what it owns and sends a beacon."""
        shard = self.shards[name]
        if not shard.alive:
            return
        shard.world = len(self.written) - 1
        self.beacon(name, heard=heard)

    def beacon(self, name: str, *, heard: bool) -> None:
        """The shard compiles from the world it has read, which may be old."""
        shard = self.shards[name]
        if not shard.alive or not shard.members:
            return
        for key in KEYS:
            if owner(key, shard.members) == name:
                revision = self.last_write(key, shard.world)
                self.compiled[key] = max(revision, self.compiled.get(key, 0))
        shard.number += 1
        beacon = Beacon(name, shard.number, self.now, shard.world, shard.members, {})
        self.sent.append((beacon, dict(self.compiled)))
        if heard:
            self.view.observe_beacon(beacon, self.now)

    def meet(self, name: str) -> None:
        """A shard notices who is alive."""
        self.shards[name].members = self.live()

    def live(self) -> tuple[str, ...]:
        return tuple(name for name, shard in self.shards.items() if shard.alive)

    def toggle(self, name: str) -> None:
        """A shard dies, or comes back with the world it had."""
        shard = self.shards[name]
        shard.alive = not shard.alive
        lease = RoleLease("routing", name, "e", "0.1.0", 1, leaving=not shard.alive)
        self.view.observe_role(lease, self.now)

    def apply(self, name: str, count: int) -> None:
        """A proxy applies the next beacons, each whole: all keys of the shard that sent it."""
        proxy = self.proxies[name]
        for beacon, compiled in self.sent[proxy.read : proxy.read + count]:
            for key in KEYS:
                if owner(key, beacon.members) == beacon.shard:
                    proxy.state[key] = max(compiled.get(key, 0), proxy.state.get(key, 0))
            proxy.applied[beacon.shard] = beacon.number
        proxy.read = min(proxy.read + count, len(self.sent))

    def lease(self, name: str) -> None:
        proxy = self.proxies[name]
        lease = ProxyLease(
            name, "e", "n", "127.0.0.1", 1, "0", "HEALTHY", (), dict(proxy.applied), (), 1, 0.0
        )
        self.view.observe_proxy(lease, self.now)

    def last_write(self, key: str, through: int) -> int:
        return max((r for r in range(1, through + 1) if self.written[r] == key), default=0)

    def check(self) -> None:
        for revision in range(len(self.written)):
            progress = self.view.progress(revision, self.now)
            assert self.view.is_applied(revision, self.now) == progress.applied
            assert self.view.is_decided(revision, self.now) == (progress.applied or bool(progress.rejected))
            if progress.applied:
                for proxy in self.proxies.values():
                    for key in KEYS:
                        assert proxy.state.get(key, 0) >= self.last_write(key, revision)


shards = st.sampled_from(SHARDS)
proxies = st.sampled_from(PROXIES)
steps = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(KEYS)),
    st.tuples(st.just("compile"), shards, st.booleans()),
    st.tuples(st.just("beacon"), shards, st.booleans()),
    st.tuples(st.just("meet"), shards),
    st.tuples(st.just("toggle"), shards),
    st.tuples(st.just("apply"), proxies, st.integers(1, 4)),
    st.tuples(st.just("lease"), proxies),
)


def run(mesh: SmallMesh, step: tuple[object, ...]) -> None:
    match step:
        case ("write", str(key)):
            mesh.write(key)
        case ("compile", str(name), bool(heard)):
            mesh.compile(name, heard=heard)
        case ("beacon", str(name), bool(heard)):
            mesh.beacon(name, heard=heard)
        case ("meet", str(name)):
            mesh.meet(name)
        case ("toggle", str(name)):
            mesh.toggle(name)
        case ("apply", str(name), int(count)):
            mesh.apply(name, count)
        case ("lease", str(name)):
            mesh.lease(name)


def started() -> SmallMesh:
    mesh = SmallMesh()
    for name in SHARDS:
        mesh.view.observe_role(RoleLease("routing", name, "e", "0.1.0", 1), mesh.now)
    for name in PROXIES:
        mesh.lease(name)
    return mesh


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=40))
def test_applied_is_never_said_too_early(program: list[tuple[object, ...]]) -> None:
    mesh = started()
    for step in program:
        run(mesh, step)
        mesh.now += 0.001
        mesh.check()


@settings(max_examples=50, deadline=None)
@given(st.lists(steps, max_size=30))
def test_a_quiet_mesh_is_applied(program: list[tuple[object, ...]]) -> None:
    mesh = started()
    for step in program:
        run(mesh, step)
        mesh.now += 0.001
    if not mesh.live():
        mesh.toggle("r0")
    for name in mesh.live():
        mesh.meet(name)
    for name in mesh.live():
        mesh.compile(name, heard=True)
    for name in PROXIES:
        mesh.apply(name, len(mesh.sent))
        mesh.lease(name)
    assert mesh.view.progress(len(mesh.written) - 1, mesh.now).applied
