"""Looking back on a real gateway: history, differences and rollback, of one object and of the mesh."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bus_broker import running_broker
from gateway_mesh import Gateway, running_gateway, start_service, state_of

from ray_mesh.bus.store import Store, ensure_buckets
from ray_mesh.errors import ConfigError, NotFound
from ray_mesh.gateway import admission as admitting
from ray_mesh.gateway import sets
from ray_mesh.sdk.client import AsyncMesh
from ray_mesh.security.signing import SigningKey


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running_gateway(tmp_path) as running:
        yield running


@pytest.fixture
def mesh(gateway: Gateway) -> AsyncMesh:
    return gateway.mesh


def service(name: str, port: int = 80) -> str:
    return (
        f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n"
        f"spec: {{selector: {{app: {name}}}, ports: [{{port: {port}, name: http}}]}}\n"
    )


def routes(name: str, timeout: str) -> str:
    return (
        f"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\n"
        f"spec: {{hosts: [{name}], http: [{{timeout: {timeout}, "
        f"route: [{{destination: {{host: {name}}}}}]}}]}}\n"
    )


BINDING = (
    "apiVersion: mesh.ray.io/v1\nkind: WorkloadBinding\nmetadata: {name: all}\n"
    'spec: {serviceAccount: default, nodes: ["*"]}\n'
)


async def manifests(mesh: AsyncMesh) -> dict[str, object]:
    return {f"{one.kind} {one.name}": one.manifest for one in await mesh.list() if one.kind != "Workload"}


async def test_revisions_are_sets_with_their_author_and_message(mesh: AsyncMesh) -> None:
    first = await mesh.apply([service("a"), service("b"), routes("a", "1s")], comment="the beginning")
    second = await mesh.apply(service("b", 81))
    third = await mesh.delete("VirtualService", "a")
    found = await mesh.revisions()
    assert [one.revision for one in found] == [first.revision, second.revision, third.revision]
    assert [(one.kind, one.name, one.action) for one in found[0].changes] == [
        ("Service", "a", "written"),
        ("Service", "b", "written"),
        ("VirtualService", "a", "written"),
    ]
    assert found[0].comment == "the beginning"
    assert "@" in found[0].author
    assert [(one.name, one.action) for one in found[2].changes] == [("a", "deleted")]
    assert [one.revision for one in await mesh.revisions(1)] == [third.revision]
    versions = await mesh.history("VirtualService", "a")
    assert [(one.revision, one.manifest is None) for one in versions] == [(3, False), (third.revision, True)]


async def test_registrations_are_listed_when_asked_for_and_stay_when_the_mesh_goes_back(
    mesh: AsyncMesh,
) -> None:
    first = await mesh.apply([service("a"), BINDING])
    await mesh.attach("a", "v1", 8080, node="n1")
    last = await mesh.apply(service("a", 81))
    assert [one.revision for one in await mesh.revisions()] == [first.revision, last.revision]
    everything = await mesh.revisions(registrations=True)
    assert [one.changes[0].kind for one in everything] == ["Service", "Workload", "Service"]
    assert [one.kind for one in await mesh.diff_revisions(first.revision)] == ["Service"]
    await mesh.rollback(first.revision)
    assert (await mesh.get("Workload", "a-v1")).name == "a-v1"
    with pytest.raises(ConfigError, match="register by attaching"):
        await mesh.rollback_object("Workload", "a-v1")


async def test_the_mesh_goes_back_as_one_set(mesh: AsyncMesh) -> None:
    first = await mesh.apply([service("a"), service("b"), routes("a", "1s"), routes("b", "1s")])
    before = await manifests(mesh)
    dates = {one.name: one.admitted_at for one in await mesh.list("VirtualService")}
    await mesh.apply([routes("a", "2s"), service("c")])
    await mesh.apply(routes("a", "3s"))
    await mesh.delete("VirtualService", "b")
    last = (await mesh.status()).revision
    assert {(one.kind, one.name) for one in await mesh.diff_revisions(first.revision)} == {
        ("VirtualService", "a"),
        ("VirtualService", "b"),
        ("Service", "c"),
    }
    tried = await mesh.rollback(first.revision, dry_run=True)
    assert tried.dry_run
    assert (await mesh.status()).revision == last
    outcome = await mesh.rollback(first.revision)
    assert {(one.kind, one.name, one.action) for one in outcome.changes} == {
        ("VirtualService", "a", "configured"),
        ("VirtualService", "b", "created"),
        ("Service", "c", "deleted"),
    }
    assert await manifests(mesh) == before
    assert {one.name: one.admitted_at for one in await mesh.list("VirtualService")} == dates
    newest = (await mesh.revisions())[-1]
    assert newest.revision == outcome.revision
    assert len(newest.changes) == 3
    assert newest.comment == f"rollback to revision {first.revision}"
    again = await mesh.rollback(first.revision)
    assert again.changes == ()
    undone = await mesh.rollback(last)
    assert {one.name for one in undone.changes} == {"a", "b", "c"}
    assert await mesh.diff_revisions(last) == ()


async def test_one_object_goes_back_and_forth(mesh: AsyncMesh) -> None:
    await mesh.apply([service("a"), routes("a", "1s")])
    second = await mesh.apply(routes("a", "2s"))
    await mesh.apply(routes("a", "3s"))

    async def timeout() -> str:
        return str((await mesh.get("VirtualService", "a")).manifest["spec"]["http"][0]["timeout"])

    await mesh.rollback_object("vs", "a")
    assert await timeout() == "2s"
    await mesh.rollback_object("VirtualService", "a", to=2)
    assert await timeout() == "1s"
    await mesh.delete("VirtualService", "a")
    await mesh.rollback_object("VirtualService", "a")
    assert await timeout() == "1s"
    await mesh.rollback_object("VirtualService", "a", to=second.revision)
    assert await timeout() == "2s"
    with pytest.raises(ConfigError, match="Service default/a is as it was first written"):
        await mesh.rollback_object("Service", "a")
    with pytest.raises(NotFound, match="Service default/nothing never existed"):
        await mesh.rollback_object("Service", "nothing", to=2)


async def test_a_rollback_is_analyzed(mesh: AsyncMesh) -> None:
    await mesh.apply(service("b"))
    first = await mesh.apply(service("a"))
    await mesh.apply(routes("a", "1s"))
    await mesh.apply([service("c"), routes("c", "1s").replace("name: c", "name: d")])
    before = await manifests(mesh)
    with pytest.raises(ConfigError, match="nothing was stored"):
        await mesh.rollback_object("Service", "c", to=first.revision)
    assert await manifests(mesh) == before


async def test_files_are_compared_with_the_mesh(mesh: AsyncMesh) -> None:
    await mesh.apply([service("a"), service("b")])
    assert await mesh.diff(service("a")) == ()
    found = await mesh.diff([service("a", 81), service("c")])
    assert [(one.name, one.before is None, one.after is None) for one in found] == [
        ("a", False, False),
        ("c", True, False),
    ]
    assert found[0].after is not None
    assert found[0].after["spec"]["ports"][0]["port"] == 81
    with pytest.raises(ConfigError, match="unknown field"):
        await mesh.diff(service("a").replace("selector", "selektor"))


async def test_what_is_not_kept_is_an_error_and_no_guess(mesh: AsyncMesh) -> None:
    await mesh.apply([service("a"), service("b")])
    with pytest.raises(NotFound, match="there is no revision 99 yet: the newest is 2"):
        await mesh.rollback(99)
    with pytest.raises(ConfigError, match="in the middle of a set"):
        await mesh.rollback(1)
    for number in range(64):
        await mesh.apply(service("a", 1000 + number))
    with pytest.raises(ConfigError, match=r"Service default/a: .* not kept any more\. The last 64 writes"):
        await mesh.rollback(2)
    with pytest.raises(ConfigError, match="not kept any more"):
        await mesh.diff_revisions(2, 3)
    assert [one.name for one in await mesh.diff_revisions(3)] == ["a"]


async def test_a_large_set_is_one_revision_and_goes_back_as_one(
    mesh: AsyncMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sets, admitting):
        monkeypatch.setattr(module, "MAX_BATCH", 20)
    names = [f"s{number}" for number in range(50)]
    first = await mesh.apply([service("s0", 99), service("s1", 99)])
    large = await mesh.apply([service(name) for name in names])
    found = await mesh.revisions()
    assert [(one.revision, len(one.changes)) for one in found] == [(2, 2), (large.revision, 50)]
    assert [one.revision for one in await mesh.history("Service", "s0")] == [1, large.revision]
    assert len(await mesh.diff_revisions(first.revision, large.revision)) == 50
    # In the middle of its staging nothing of it was in force.
    assert len(await mesh.diff_revisions(first.revision, large.revision - 5)) == 0
    back = await mesh.rollback(first.revision)
    assert len(back.changes) == 50
    assert sorted(one.name for one in await mesh.list("Service")) == ["s0", "s1"]
    assert [(one.revision, len(one.changes)) for one in await mesh.revisions()][-1] == (back.revision, 50)


async def test_before_a_restoration_nothing_is_known(tmp_path: Path) -> None:
    admission, compiled = SigningKey.generate(), SigningKey.generate()
    old, anew = tmp_path / "old", tmp_path / "anew"
    old.mkdir()
    anew.mkdir()
    async with running_broker(old) as broker:
        serving = await start_service(broker, "g0", 0, admission, compiled)
        async with AsyncMesh(state_of(serving.port)) as mesh:
            await mesh.apply([service("a"), service("b")])
            await mesh.apply(service("a", 81))
        entries = await Store(await broker.join("controller", "c1"), "mesh-desired").list()
        await serving.stop()
    async with running_broker(anew, buckets=False) as broker:
        controller = await broker.join("controller", "c2")
        assert await ensure_buckets(controller, desired=entries)
        assert not await ensure_buckets(controller, desired=entries), "a second look keeps what is known"
        serving = await start_service(broker, "g0", 0, admission, compiled)
        async with AsyncMesh(state_of(serving.port)) as mesh:
            head = (await mesh.revisions())[-1].revision
            await mesh.apply(service("c"))
            with pytest.raises(ConfigError, match=f"history begins with revision {head}"):
                await mesh.rollback(2)
            await mesh.rollback(head)
            assert sorted(one.name for one in await mesh.list("Service")) == ["a", "b"]
        await serving.stop()
