"""Rings, Maglev tables, what of a request is hashed, and weights."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import pytest

from ray_mesh.proxy.hashing import Edit, Hashing
from ray_mesh.proxy.ring import Maglev, Ring, Table, hash_of
from ray_mesh.proxy.weights import WeightedPicker, warmth
from ray_mesh.resources.load_balancer import is_prime
from ray_mesh.snapshot import Balance, Endpoint, HashPolicy, Warmup

KEYS = [hash_of(b"%d" % number) for number in range(4000)]


def named(count: int, weights: tuple[int, ...] = ()) -> list[tuple[str, int, str]]:
    sizes = weights or (1,) * count
    return [(f"m{number}", sizes[number], f"m{number}") for number in range(count)]


def owners(table: Table[str], gone: str = "") -> list[str]:
    return [str(table.choose(key, lambda each: each != gone)) for key in KEYS]


@pytest.mark.parametrize("kind", ["ring", "maglev"])
def test_who_leaves_moves_only_its_own_keys(kind: str) -> None:
    def table(members: list[tuple[str, int, str]]) -> Table[str]:
        return Ring(members, 4096) if kind == "ring" else Maglev(members, 4099)

    whole = table(named(10))
    before = owners(whole)
    without = owners(whole, gone="m3")
    moved = [one for one, other in zip(before, without, strict=True) if one != other]
    assert set(moved) == {"m3"}, "who is not usable now costs the others nothing"
    assert 0.05 < len(moved) / len(KEYS) < 0.16
    smaller = owners(table([one for one in named(10) if one[0] != "m3"]))
    assert sum(one != other for one, other in zip(before, smaller, strict=True)) / len(KEYS) < 0.25
    assert len(set(without)) == 9


def test_a_maglev_table_is_even() -> None:
    for count in (2, 7, 50):
        shares = Counter(Maglev(named(count), 4099)._owners)
        assert max(shares.values()) - min(shares.values()) <= 1


def test_weights_are_shares() -> None:
    weights = (1, 2, 5)
    for table in (Ring(named(3, weights), 16_384), Maglev(named(3, weights), 16_381)):
        shares = Counter(owners(table))
        for number, weight in enumerate(weights):
            assert shares[f"m{number}"] / len(KEYS) == pytest.approx(weight / 8, abs=0.05)


def test_a_ring_is_ketamas_kind_and_the_same_everywhere() -> None:
    ring = Ring(named(3), 1024)
    assert len(ring._points) == 1026
    assert ring._points == sorted(ring._points)
    assert owners(ring) == owners(Ring(list(reversed(named(3))), 1024))
    assert Ring(named(1), 1).choose(KEYS[0], lambda each: True) == "m0"


def test_nobody_usable() -> None:
    for table in (Ring(named(3), 16), Maglev(named(3), 17)):
        assert table.choose(KEYS[0], lambda each: False) is None


def test_primes() -> None:
    assert [number for number in range(20) if is_prime(number)] == [2, 3, 5, 7, 11, 13, 17, 19]
    assert is_prime(16_381)


@dataclass(eq=False)
class One:
    """An endpoint."""

    endpoint: Endpoint
    active: int = 0
    born_at: float = 0.0


def members(*weights: int) -> list[One]:
    return [
        One(Endpoint(f"w{number}", "10.0.0.1", 80, "", "", (), "", weight=weight))
        for number, weight in enumerate(weights)
    ]


@dataclass
class Asked:
    """A request."""

    fields: dict[bytes, bytes]
    query: bytes = b""
    client: bytes = b"127.0.0.1"
    edit: Edit | None = None
    attempts: int = 0

    def header(self, name: bytes) -> bytes | None:
        return self.fields.get(name)


COOKIE = HashPolicy("cookie", "session", "/shop", 60.0, (("SameSite", "Lax"), ("Secure", "")))


@pytest.mark.parametrize(
    ("policy", "asked"),
    [
        (HashPolicy("header", "x-user"), lambda user: Asked({b"x-user": user})),
        (HashPolicy("cookie", "session"), lambda user: Asked({b"cookie": b"a=b; session=" + user})),
        (HashPolicy("cookie", "session"), lambda user: Asked({b"cookie": b'session="' + user + b'"; a=b'})),
        (HashPolicy("query", "user"), lambda user: Asked({}, b"?a=b&user=" + user)),
        (HashPolicy("source_ip"), lambda user: Asked({}, client=b"10.0.0." + user)),
        (HashPolicy("header", "x-user", table_size=4099), lambda user: Asked({b"x-user": user})),
    ],
)
def test_what_is_hashed(policy: HashPolicy, asked: object) -> None:
    hashing: Hashing[One] = Hashing(policy)
    all_of_them = members(1, 1, 1, 1, 1)
    hashing.refill(all_of_them)
    make = asked
    assert callable(make)

    def owner(user: bytes) -> One | None:
        return hashing.choose(make(user), lambda each: True)

    found = {owner(b"%d" % user) for user in range(60)}
    assert None not in found
    assert len(found) == 5
    assert all(owner(b"7") is owner(b"7") for _ in range(5))


def test_what_cannot_be_hashed_goes_anywhere() -> None:
    for policy in (HashPolicy("header", "x"), HashPolicy("cookie", "c"), HashPolicy("query", "q")):
        hashing: Hashing[One] = Hashing(policy)
        hashing.refill(members(1, 1))
        assert hashing.choose(Asked({}), lambda each: True) is None


def test_a_missing_cookie_is_made_once() -> None:
    hashing: Hashing[One] = Hashing(COOKIE)
    hashing.refill(members(1, 1, 1))
    asked = Asked({})
    owner = hashing.choose(asked, lambda each: True)
    asked.attempts = 1
    assert hashing.choose(asked, lambda each: True) is None
    assert asked.edit is not None
    line = asked.edit(b"\r\n")[2:].decode()
    assert line.count("set-cookie") == 1
    start, _, rest = line.partition("; ")
    assert rest == "Max-Age=60; Path=/shop; SameSite=Lax; Secure; HttpOnly\r\n"
    value = start.partition("=")[2].strip('"').encode()
    assert hashing.choose(Asked({b"cookie": b"session=" + value}), lambda each: True) is owner


@pytest.mark.parametrize("balance", ["LEAST_REQUEST", "RANDOM", "ROUND_ROBIN"])
def test_weights(balance: Balance) -> None:
    random.seed(7)
    picker: WeightedPicker[One] = WeightedPicker(balance, None)
    all_of_them = members(1, 2, 5)
    seen: Counter[int] = Counter()
    busy: list[One] = []
    for _ in range(4000):
        one = picker(all_of_them)
        seen[one.endpoint.weight] += 1
        one.active += 1
        busy.append(one)
        if len(busy) > 40:
            busy.pop(0).active -= 1
    for weight in (1, 2, 5):
        assert seen[weight] / 4000 == pytest.approx(weight / 8, abs=0.04)


@pytest.mark.parametrize("balance", ["LEAST_REQUEST", "RANDOM", "ROUND_ROBIN"])
def test_idle_endpoints_share_by_weight(balance: Balance) -> None:
    random.seed(7)
    picker: WeightedPicker[One] = WeightedPicker(balance, None)
    all_of_them = members(1, 9)
    seen = Counter(picker(all_of_them).endpoint.weight for _ in range(4000))
    assert seen[1] / 4000 == pytest.approx(0.1, abs=0.02)


def test_least_request_counts_what_is_in_flight_by_weight() -> None:
    random.seed(7)
    picker: WeightedPicker[One] = WeightedPicker("LEAST_REQUEST", None)
    light, heavy = all_of_them = members(1, 9)
    light.active, heavy.active = 1, 8
    assert Counter(picker(all_of_them).endpoint.weight for _ in range(1000))[9] > 980
    light.active, heavy.active = 1, 10
    assert Counter(picker(all_of_them).endpoint.weight for _ in range(1000))[9] < 850


def test_round_robin_by_weight_is_smooth() -> None:
    picker: WeightedPicker[One] = WeightedPicker("ROUND_ROBIN", None)
    all_of_them = members(1, 3)
    turns = [picker(all_of_them).endpoint.weight for _ in range(8)]
    assert turns == [3, 1, 3, 3, 3, 1, 3, 3] or turns.count(1) == 2


@pytest.mark.parametrize(
    ("age_s", "warmup", "share"),
    [
        (0.0, Warmup(10.0), 0.1),
        (0.5, Warmup(10.0), 0.1),
        (5.0, Warmup(10.0), 0.5),
        (9.0, Warmup(10.0, aggression=2.0), 0.9**0.5),
        (5.0, Warmup(10.0, minimum_percent=70.0), 0.7),
        (10.0, Warmup(10.0), 1.0),
        (99.0, Warmup(10.0), 1.0),
    ],
)
def test_warmth(age_s: float, warmup: Warmup, share: float) -> None:
    assert warmth(warmup, age_s) == pytest.approx(share)
