"""The commands against a gateway on a real broker; each runs as a process of its own or in a thread."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from gateway_mesh import Gateway, running_gateway, state_of

from ray_mesh.sdk.facade import Mesh
from ray_mesh.sdk.state import write_state

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec:
  selector: {app: reviews}
  ports: [{name: http, port: 9080}]
"""
BINDING = """
apiVersion: mesh.ray.io/v1
kind: WorkloadBinding
metadata: {name: everywhere}
spec: {serviceAccount: default, nodes: ["*"]}
"""


@dataclass(frozen=True, slots=True)
class Done:
    code: int
    out: str
    err: str


class Command:
    """Runs ``ray-mesh`` with the state file of a test."""

    def __init__(self, state: Path) -> None:
        self.state = state

    async def __call__(self, *arguments: str, stdin: str = "") -> Done:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ray_mesh", "--state", str(self.state), "--timeout", "8", *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(stdin.encode()), 60)
        except BaseException:
            process.kill()
            await process.wait()
            raise
        return Done(process.returncode or 0, out.decode(), err.decode())


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running_gateway(tmp_path) as running:
        write_state(tmp_path / "mesh.json", state_of(running.service.port))
        yield running


@pytest.fixture
def command(gateway: Gateway, tmp_path: Path) -> Command:
    return Command(tmp_path / "mesh.json")


async def test_apply_get_delete(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "service.yaml"
    file.write_text(SERVICE)
    applied = await command("apply", "-f", str(file), "--wait")
    assert (applied.code, applied.out) == (0, "Service default/reviews created\n")
    assert "is applied by every live proxy" in applied.err
    again = await command("apply", "-f", "-", "-o", "json", stdin=SERVICE)
    assert json.loads(again.out)["changes"][0]["action"] == "unchanged"
    shown = await command("get", "service", "reviews", "-o", "yaml")
    assert yaml.safe_load(shown.out)["spec"]["selector"] == {"app": "reviews"}
    assert "reviews" in (await command("get")).out
    everything = await command("get", "-o", "yaml")
    assert (
        await command("apply", "-f", "-", stdin=everything.out)
    ).out == "Service default/reviews unchanged\n"
    history = await command("history", "Service", "reviews", "-o", "json")
    assert len(json.loads(history.out)) == 1
    assert (await command("delete", "Service", "reviews")).out == "Service default/reviews deleted\n"
    for form in ("table", "json", "yaml"):
        gone = await command("get", "Service", "reviews", "-o", form)
        assert (gone.code, gone.out) == (3, "")


async def test_analyze_the_mesh_and_what_is_about_to_come(command: Command) -> None:
    await command("apply", "-f", "-", stdin=SERVICE)
    clean = await command("analyze")
    assert (clean.code, clean.out, clean.err) == (0, "", "1 document: no findings\n")
    routes = (
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: reviews}\n"
        "spec: {hosts: [reviews], http: [{route: [{destination: {host: nowhere}}]}]}\n"
    )
    found = await command("analyze", "-f", "-", "-o", "json", stdin=routes)
    report = json.loads(found.out)
    assert (found.code, [one["code"] for one in report["findings"]]) == (79, ["IST0101"])
    assert report["findings"][0]["where"] == "stdin:4:57"
    assert (await command("analyze", "-f", "-", "-S", "IST0101=*", stdin=routes)).code == 0
    assert (await command("analyze", "-S", "IST0101")).code == 65
    assert "virtualservice" not in (await command("get")).out.lower()


async def test_looking_back_and_going_back(command: Command, gateway: Gateway) -> None:
    first = await gateway.mesh.apply(SERVICE, comment="as it was")
    await gateway.mesh.apply(SERVICE.replace("9080", "9081"))
    at = str(first.revision)
    revisions = await command("history")
    assert [line.split()[0] for line in revisions.out.splitlines()] == ["REVISION", "1", "2"]
    assert "Service default/reviews" in revisions.out
    assert "as it was" in revisions.out
    different = await command("diff", "--from", at)
    assert different.code == 1
    assert different.out.startswith(
        "--- Service default/reviews (revision 1)\n+++ Service default/reviews (now)\n"
    )
    assert "-    port: 9080\n+    port: 9081\n" in different.out
    as_data = await command("diff", "Service", "reviews", "--from", at, "-o", "json")
    assert (as_data.code, json.loads(as_data.out)[0]["name"]) == (1, "reviews")
    same = await command("diff", "-f", "-", "-o", "yaml", stdin=SERVICE.replace("9080", "9081"))
    assert (same.code, yaml.safe_load(same.out)) == (0, [])
    assert (await command("diff", "-f", "-", stdin=SERVICE.replace("ports", "potrs"))).code == 65
    assert (await command("diff", "--from", "77")).code == 3
    for wrong in (["diff"], ["diff", "-f", "x", "--from", "1"], ["diff", "Service"], ["rollback"]):
        assert (await command(*wrong)).code == 2
    back = await command("rollback", "--to", at, "--wait", "-m", "it was better")
    assert (back.code, back.out) == (0, "Service default/reviews configured\n")
    assert "it was better" in (await command("history", "Service", "reviews")).out
    assert (await command("rollback", "Service", "reviews", "--dry-run")).out == back.out


async def test_invalid_configuration_is_65_and_says_where(command: Command) -> None:
    wrong = await command("apply", "-f", "-", stdin=SERVICE.replace("selector", "selectr"))
    assert wrong.code == 65
    assert wrong.out == ""
    assert "did you mean selector" in wrong.err


async def test_looking(command: Command, gateway: Gateway) -> None:
    await gateway.mesh.apply(SERVICE)
    status = await command("status", "-o", "json")
    assert (status.code, json.loads(status.out)["proxies"]) == (0, 1)
    proxies = await command("proxies")
    assert "SYNCED" in proxies.out
    assert (await command("graph")).err == "no traffic in the last 60 s\n"
    assert json.loads((await command("graph", "-o", "json")).out)["edges"] == []
    assert (await command("events")).code == 0
    version = json.loads((await command("version", "-o", "json")).out)
    assert version["mesh"] == version["client"]


async def test_explaining_requests_of_the_mesh(command: Command, gateway: Gateway) -> None:
    await gateway.mesh.apply([SERVICE, BINDING])
    await gateway.mesh.attach("reviews", "v1", 9080)
    explain = ("config", "explain", "--from", "default/reviews-v1")
    told = await command(*explain, "POST", "http://reviews:9080/x", "-H", "end-user: bob")
    assert (told.code, told.err) == (0, "")
    assert "FORWARDED  forwarded to reviews.default.svc.cluster.local\n" in told.out
    assert "@ Service default/reviews:" in told.out
    refused = await command(*explain, "http://nothing/", "-o", "json")
    assert (refused.code, json.loads(refused.out)["verdict"]["flag"]) == (80, "NR")


async def test_wait_in_vain_is_5(command: Command, gateway: Gateway) -> None:
    gateway.peers.is_applying = False
    revision = (await gateway.mesh.apply(SERVICE)).revision
    waited = await command("wait", "--revision", str(revision))
    assert waited.code == 5
    assert "waiting for proxy p0" in waited.err


async def test_a_wrong_token_is_4(command: Command, gateway: Gateway) -> None:
    write_state(command.state, state_of(gateway.service.port, "another"))
    assert (await command("status")).code == 4


async def test_the_sync_client_in_a_thread(gateway: Gateway, tmp_path: Path) -> None:
    def use() -> None:
        with Mesh.connect(tmp_path / "mesh.json") as mesh:
            mesh.wait(mesh.apply([SERVICE, BINDING]).revision, timeout_s=10)
            with mesh.attach("reviews", "v1", 9080) as attachment:
                assert attachment.env()["http_proxy"].startswith("http://reviews-v1:")
                assert [one.name for one in mesh.list("Workload")] == ["reviews-v1"]
            assert mesh.list("Workload") == ()
            assert [one.sync for one in mesh.proxies()] == ["SYNCED"]
            assert mesh.graph(10).edges == ()
            assert mesh.status().proxies == 1

    await asyncio.to_thread(use)


async def test_down_ends_what_answers(command: Command, gateway: Gateway) -> None:
    ending = asyncio.create_task(command("down"))
    async with asyncio.timeout(20):
        while "down" not in gateway.controls:
            await asyncio.sleep(0.02)
    await gateway.service.stop()
    done = await ending
    assert (done.code, done.err) == (0, "mesh test is down\n")
    assert not command.state.exists()
    assert (await command("down")).code == 5
