"""Bookinfo's gRPC service on a running mesh: canaries by call, faults, policies, and what the graph says."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from importlib.resources import files

import pytest
from mesh_site import Site, eventually

FOLDER = files("ray_mesh.configs").joinpath("bookinfo")
SERVICE = "recommendations.default.svc.cluster.local"
BROKEN = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: recommendations}
spec:
  hosts: [recommendations]
  http:
  - match: [{headers: {end-user: {exact: jason}}}]
    fault: {abort: {grpcStatus: RESOURCE_EXHAUSTED, percentage: {value: 100}}}
    route: [{destination: {host: recommendations}}]
  - route: [{destination: {host: recommendations, subset: v1}}]
"""
NOBODY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: recommendations}
spec: {selector: {matchLabels: {app: recommendations}}}
"""


@pytest.fixture
def clean(site: Site) -> Iterator[Site]:
    """Afterwards nothing is left of what a test applied."""
    before = {(one.kind, one.namespace, one.name) for one in site.mesh.list()}
    yield site
    for one in site.mesh.list():
        if (one.kind, one.namespace, one.name) not in before:
            site.remove(one.kind, one.name, one.namespace)


def apply(site: Site, name: str) -> None:
    site.apply(FOLDER.joinpath(name).read_text(encoding="utf-8"))


def recommended(page: str) -> str:
    """The version whose recommendations a page shows, or why there are none."""
    found = re.search(r'id="recommendations" data-(?:version|status)="(\w+)"', page)
    assert found is not None, page
    return found[1]


async def _pages(site: Site, count: int) -> Counter[str]:
    """What pages show that are asked for one after the other, four at a time."""
    seen: Counter[str] = Counter()

    async def view() -> None:
        for _ in range(count // 4):
            seen[recommended(await asyncio.to_thread(site.page))] += 1

    await asyncio.gather(*(view() for _ in range(4)))
    return seen


@pytest.mark.parametrize("name", ["recommendations-80-20.yaml", "recommendations-grpcroute.yaml"])
def test_a_canary_is_by_call_and_not_by_connection(clean: Site, name: str) -> None:
    apply(clean, name)
    seen = asyncio.run(_pages(clean, 160))
    assert set(seen) == {"v1", "v2"}
    # 4.5 standard deviations of a binomial: a false alarm once in 100,000 runs.
    assert abs(seen["v2"] / 160 - 0.2) <= 4.5 * (0.2 * 0.8 / 160) ** 0.5, seen


def test_an_abort_is_a_status_that_the_page_and_the_graph_tell(clean: Site) -> None:
    clean.apply(BROKEN)
    assert recommended(clean.page()) == "v1"
    page = clean.page("jason")
    assert "RESOURCE_EXHAUSTED" in page
    failed = eventually(lambda: [one for one in clean.mesh.graph(20.0).edges if one.grpc_statuses.get("8")])
    assert [one.service for one in failed] == [SERVICE]
    edge = failed[0]
    assert edge.protocol == "grpc"
    assert (edge.error_ratio, edge.flags.get("FI")) == (1.0, edge.requests)
    text = clean.mesh.graph(20.0).to_text()
    assert "RESOURCE_EXHAUSTED:" in text


def test_a_denial_is_permission_denied(clean: Site) -> None:
    clean.apply(NOBODY)
    page = clean.page()
    assert "PERMISSION_DENIED: RBAC: access of mesh.local/ns/default/sa/bookinfo-productpage" in page


def test_a_program_on_this_machine_calls_by_its_attachment(clean: Site) -> None:
    from ray_mesh.demo.recommendations import METHOD, SERVICE, TITLES, decode, encode

    with clean.mesh.attach("reader", "v1", 9) as reader, reader.grpc_channel("recommendations:9080") as made:
        call = made.unary_unary(f"/{SERVICE}/{METHOD}", encode, decode)
        answer = call({"product": 7}, timeout=20.0, wait_for_ready=True)
        assert answer["titles"] == list(TITLES[answer["version"]])
