"""Every way onto a Ray cluster, as a person goes it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from mesh_site import eventually
from nbclient import NotebookClient
from ray_head import BIN, Head, ray_head

from ray_mesh.security.ca import Authority

ROOT = Path(__file__).parents[2]
KEPT = """
apiVersion: v1
kind: Service
metadata: {name: kept}
spec: {selector: {app: nobody}, ports: [{name: http, port: 80}]}
"""
untyped_nbformat: Any = nbformat
UP = ("python", "-m", "ray_mesh", "up", "--detach")


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with ray_head(token=True) as running:
        yield running


def state_of(head: Head) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(head.state_file.read_text())
    return found


def actors(head: Head, role: str) -> list[int]:
    done = head.ray_mesh("status", "-o", "json")
    return [one["pid"] for one in json.loads(done.stdout)["actors"] if one["role"] == role]


@pytest.mark.timeout(180)
def test_a_job_with_a_working_directory_brings_up_a_mesh_that_outlives_it(head: Head) -> None:
    log = head.submit(
        "--working-dir", str(ROOT), "--", *UP, "--api-address", "0.0.0.0", "--api-name", "mesh.example"
    )
    assert "API      https://" in log
    assert head.ray_mesh("status").returncode == 0
    (proxy, _) = actors(head, "proxy")
    assert b"working_dir_files" in Path(f"/proc/{proxy}/environ").read_bytes()


@pytest.mark.timeout(120)
def test_the_api_is_reached_from_elsewhere_with_a_copy_of_the_state_file(head: Head, tmp_path: Path) -> None:
    copy = shutil.copy(head.state_file, tmp_path / "copy.json")
    elsewhere = {"RAY_MESH_STATE": str(copy), "RAY_AUTH_TOKEN": ""}
    assert head.ray_mesh("status", env=elsewhere).returncode == 0
    port = state_of(head)["api"].rpartition(":")[2]
    tunnel = head.ray_mesh("--api", f"https://localhost:{port}", "proxies", env=elsewhere)
    assert tunnel.returncode == 0, tunnel.stderr
    plain = head.ray_mesh("--api", f"http://192.0.2.77:{port}", "proxies", env=elsewhere)
    assert plain.returncode == 65
    assert "https" in plain.stderr


@pytest.mark.timeout(120)
def test_the_api_is_verified_with_the_root_of_the_mesh_only(head: Head, tmp_path: Path) -> None:
    other = Authority.create_root("mesh.local", time.time()).certificate.public_bytes(Encoding.PEM)
    (tmp_path / "other.json").write_text(json.dumps(state_of(head) | {"root_pem": other.decode()}))
    (tmp_path / "other.json").chmod(0o600)
    refused = head.ray_mesh("--state", str(tmp_path / "other.json"), "status")
    assert refused.returncode == 5
    assert "CERTIFICATE_VERIFY_FAILED" in refused.stderr


@pytest.mark.timeout(120)
def test_a_second_job_with_the_package_installed_joins_the_same_mesh(head: Head) -> None:
    before = (state_of(head), actors(head, "proxy"))
    log = head.submit("--", *UP)
    assert state_of(head)["api"] in log
    assert (state_of(head), actors(head, "proxy")) == before


@pytest.mark.timeout(120)
def test_up_with_other_numbers_scales_and_with_other_options_is_refused(head: Head) -> None:
    auto = {"RAY_ADDRESS": "auto"}
    done = head.ray_mesh("up", "--replicas", "2", env=auto)
    assert done.returncode == 0, done.stderr
    assert len(actors(head, "routing")) == 2
    assert len(actors(head, "proxy")) == 2
    assert head.ray_mesh("up", "--replicas", "1", env=auto).returncode == 0
    eventually(lambda: len(actors(head, "routing")) == 1)
    refused = head.ray_mesh("up", "--svid-ttl", "60", env=auto)
    assert refused.returncode == 65
    assert "svid_ttl_s=3600, not 60" in refused.stderr


@pytest.mark.timeout(120)
def test_a_notebook_on_the_cluster_joins_and_uses_the_mesh(
    head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = (
        "import ray_mesh\nmesh = ray_mesh.up(address='auto')",
        "print(mesh.status().problems, [one.sync for one in mesh.proxies()])",
        "print(mesh.apply('''\napiVersion: v1\nkind: Service\nmetadata: {name: from-notebook}\n"
        "spec: {selector: {app: nobody}, ports: [{name: http, port: 80}]}\n''').changes[0].action)",
    )
    notebook = untyped_nbformat.v4.new_notebook(
        cells=[untyped_nbformat.v4.new_code_cell(cell) for cell in cells]
    )
    for name, value in head.env.items():
        monkeypatch.setenv(name, value)
    ran = NotebookClient(notebook, timeout=100, kernel_name="python3").execute()
    said = [cell["outputs"][-1]["text"] for cell in ran["cells"][1:]]
    assert said == ["() ['SYNCED', 'SYNCED']\n", "created\n"]
    assert head.ray_mesh("delete", "Service", "from-notebook").returncode == 0


@pytest.mark.timeout(120)
def test_the_demo_attaches_to_the_running_mesh_and_leaves_it_as_it_was(head: Head) -> None:
    before = head.ray_mesh("get", "service", "-o", "json").stdout
    done = head.ray_mesh("demo", "--attach", "--duration", "3", "-o", "json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["failures"], report["mtls"]) == (0, 1.0)
    assert head.ray_mesh("get", "service", "-o", "json").stdout == before
    assert head.ray_mesh("get", "workload", "-o", "json").stdout.count("bookinfo") == 0


@pytest.mark.timeout(120)
def test_check_finds_nothing_that_fails(head: Head) -> None:
    done = head.ray_mesh("check", "-o", "json")
    outcomes = {one["check"]: one["outcome"] for one in json.loads(done.stdout)}
    assert set(outcomes.values()) <= {"ok", "warning", "skipped"}, done.stderr
    assert outcomes | {"files": "", "clock": ""} == {
        "ray": "ok",
        "token": "ok",
        "gcs": "warning",
        "files": "",
        "clock": "",
        "nats": "ok",
        "api": "ok",
        "broker": "ok",
        "certificates": "ok",
        "clocks": "ok",
        "parts": "ok",
        "renewals": "ok",
    }
    assert "see:   docs/cluster.md#gcs" in done.stderr


@pytest.mark.timeout(120)
def test_down_leaves_no_actor_and_no_file(head: Head) -> None:
    pids = [pid for role in ("proxy", "gateway", "controller", "broker") for pid in actors(head, role)]
    assert head.ray_mesh("down").returncode == 0
    assert not head.state_file.exists()
    assert not head.state_file.with_suffix(".state").exists()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


@pytest.mark.timeout(180)
def test_the_script_for_ray_submit_runs_on_the_head_and_a_kept_state_survives(
    head: Head, tmp_path: Path
) -> None:
    script = shutil.copy(ROOT / "configs" / "ray" / "up.py", tmp_path / "up.py")
    command = (str(BIN / "python"), str(script), "--state-dir", str(head.home / "kept"))
    assert head.run(*command).returncode == 0
    (tmp_path / "kept.yaml").write_text(KEPT)
    assert head.ray_mesh("apply", "-f", str(tmp_path / "kept.yaml"), "--wait").returncode == 0
    assert head.ray_mesh("down").returncode == 0
    assert head.run(*command).returncode == 0
    found = head.ray_mesh("get", "Service", "kept")
    assert found.returncode == 0, found.stderr
    other = head.ray_mesh(
        "up", "--name", "other", "--state-dir", str(head.home / "kept"), env={"RAY_ADDRESS": "auto"}
    )
    assert other.returncode == 65
    assert "another mesh uses the state directory" in other.stderr
    assert head.ray_mesh("down").returncode == 0


@pytest.mark.timeout(120)
def test_ray_client_is_refused_with_the_way_that_works(head: Head) -> None:
    refused = head.ray_mesh("up", "--address", "ray://127.0.0.1:10001")
    assert refused.returncode == 65
    assert "ray job submit" in refused.stderr


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_without_token_authentication_it_works_and_check_warns() -> None:
    with ray_head(token=False) as head:
        done = head.ray_mesh("up", "--address", "auto", "--detach")
        assert done.returncode == 0, done.stderr
        assert head.ray_mesh("status").returncode == 0
        found = json.loads(head.ray_mesh("check", "--before-up", "-o", "json").stdout)
        assert [one["outcome"] for one in found if one["check"] == "token"] == ["warning"]
        assert head.ray_mesh("down").returncode == 0
