from __future__ import annotations

import time

import pytest

from ray_mesh.errors import PeerError
from ray_mesh.proxy.tls import Trust
from ray_mesh.proxy.verdicts import Verdicts
from ray_mesh.security.bundle import Bundle
from ray_mesh.security.ca import Authority
from ray_mesh.security.identity import for_workload
from ray_mesh.security.svid import csr, new_key

DOMAIN = "mesh.local"
NOW = time.time()
ALICE = for_workload(DOMAIN, "default", "alice")


def chain_of(root: Authority, ttl_s: float = 3600) -> tuple[bytes, ...]:
    return root.create_intermediate(NOW).issue(csr(new_key()), ALICE, ttl_s, NOW)


def known(root: Authority, chain: tuple[bytes, ...]) -> Verdicts:
    verdicts = Verdicts()
    verdicts.keep(chain, ALICE, root.bundle().roots, NOW)
    return verdicts


def test_a_verdict_holds_from_when_it_was_made_until_the_chain_ends() -> None:
    root = Authority.create_root(DOMAIN, NOW)
    chain = chain_of(root)
    verdicts = known(root, chain)
    assert verdicts.find(chain, NOW) == ALICE
    assert verdicts.find(chain, NOW + 3590) == ALICE
    assert verdicts.find(chain, NOW + 3601) is None
    assert verdicts.find(chain, NOW - 1) is None


def test_a_verdict_ends_with_a_root() -> None:
    old, new = Authority.create_root(DOMAIN, NOW, lifetime_s=7200), Authority.create_root(DOMAIN, NOW)
    chain = chain_of(new, ttl_s=3600 * 4)
    verdicts = Verdicts()
    verdicts.keep(chain, ALICE, (*old.bundle().roots, *new.bundle().roots), NOW)
    assert verdicts.find(chain, NOW + 7100) == ALICE
    assert verdicts.find(chain, NOW + 7300) is None


def test_another_chain_is_another_matter() -> None:
    root = Authority.create_root(DOMAIN, NOW)
    chain, other = chain_of(root), chain_of(root)
    verdicts = known(root, chain)
    assert verdicts.find(other, NOW) is None
    assert verdicts.find(chain[:1], NOW) is None
    assert verdicts.find((*chain, chain[0]), NOW) is None


def test_they_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_mesh.proxy.verdicts.MOST", 2)
    root = Authority.create_root(DOMAIN, NOW)
    first, second, third = (chain_of(root) for _ in range(3))
    verdicts = known(root, first)
    for chain in (second, third):
        verdicts.keep(chain, ALICE, (), NOW)
    assert verdicts.find(first, NOW) is None
    assert verdicts.find(third, NOW) == ALICE


@pytest.mark.parametrize("again", [1, 2])
def test_trust_forgets_with_the_roots(again: int) -> None:
    ours, theirs = Authority.create_root(DOMAIN, NOW), Authority.create_root(DOMAIN, NOW)
    chain = chain_of(ours)
    trust = Trust()
    trust.replace({DOMAIN: ours.bundle()})
    for _ in range(again):
        assert trust.verify(chain) == ALICE
    trust.replace({DOMAIN: theirs.bundle()})
    with pytest.raises(PeerError):
        trust.verify(chain)
    trust.replace({"other.local": Bundle("other.local", ours.bundle().roots)})
    with pytest.raises(PeerError):
        trust.verify(chain)


def test_what_was_refused_is_looked_at_again() -> None:
    root = Authority.create_root(DOMAIN, NOW)
    chain = chain_of(root)
    trust = Trust()
    with pytest.raises(PeerError):
        trust.verify(chain)
    trust.replace({DOMAIN: root.bundle()})
    assert trust.verify(chain) == ALICE
