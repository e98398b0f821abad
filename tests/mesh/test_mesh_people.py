"""The ways in of people: command line, notebook, and a NATS subscriber, against a running mesh."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from mesh_site import Site, eventually
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]


def ray_mesh(site: Site, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "RAY_MESH_STATE": str(site.running.state_file)}
    return subprocess.run(
        [sys.executable, "-m", "ray_mesh", *arguments],
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def answer(site: Site, *arguments: str) -> Any:
    done = ray_mesh(site, *arguments, "-o", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_status_and_proxies_say_that_all_is_well(site: Site) -> None:
    status = eventually(lambda: (now := answer(site, "status"))["problems"] == [] and now)
    assert status["proxies"] == status["synced"] == 2
    assert {row["sync"] for row in answer(site, "proxies")} == {"SYNCED"}


def test_apply_get_wait_and_delete_from_the_command_line(site: Site) -> None:
    text = (ROOT / "configs" / "bookinfo" / "reviews-80-20.yaml").read_text()
    applied = ray_mesh(site, "apply", "-f", "-", "--wait", stdin=text)
    assert applied.returncode == 0, applied.stderr
    found = answer(site, "get", "VirtualService", "reviews")
    assert found["spec"]["http"][0]["route"][0]["weight"] == 80
    assert ray_mesh(site, "delete", "VirtualService", "reviews").returncode == 0
    assert ray_mesh(site, "get", "VirtualService", "reviews").returncode == 3


@pytest.mark.parametrize("output", ["table", "json", "yaml"])
def test_exit_codes_do_not_depend_on_the_output(site: Site, output: str) -> None:
    assert ray_mesh(site, "get", "Service", "nobody", "-o", output).returncode == 3
    bad = ray_mesh(site, "apply", "-f", "-", "-o", output, stdin="kind: Sidecar\napiVersion: x/v1\n")
    assert bad.returncode == 65
    assert "Sidecar" in bad.stderr


def test_graph_as_text_and_json_shows_who_calls_whom(site: Site) -> None:
    with site.traffic(rate=10.0):
        edges = eventually(lambda: answer(site, "graph")["edges"])
        assert {"productpage-v1", "details-v1"} & {edge["source"].split("/")[-1] for edge in edges}
        assert "reviews.default" in ray_mesh(site, "graph").stdout


def test_a_plain_nats_subscriber_sees_the_edges(site: Site, tmp_path: Path) -> None:
    admitted = ray_mesh(site, "observe", "me", "--seed", str(tmp_path / "me.seed"))
    assert admitted.returncode == 0, admitted.stderr
    example = ROOT / "docs" / "examples" / "nats_subscriber.py"
    with site.traffic(rate=10.0), (tmp_path / "out").open("wb") as output:
        command = [sys.executable, str(example), *admitted.stdout.split()]
        subscriber = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            eventually(lambda: "reviews.default" in (tmp_path / "out").read_text(), timeout_s=20.0)
        finally:
            subscriber.terminate()
            subscriber.wait(10.0)


def test_the_notebook_runs(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_MESH_STATE", str(site.running.state_file))
    notebook = nbformat.read(ROOT / "notebooks" / "traffic_analysis.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert outputs
    assert not [output for output in outputs if output.output_type == "error"]
