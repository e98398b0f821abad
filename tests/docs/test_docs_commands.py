"""Commands in the documents and in configs/ray are ones that there are, with options that they have."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from ray_mesh.check import finding
from ray_mesh.cli.main import cli

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
CLUSTER = (ROOT / "docs" / "cluster.md").read_text()
KUBERAY = list(yaml.safe_load_all((ROOT / "configs" / "ray" / "kuberay.yaml").read_text()))


def console_lines(text: str) -> Iterator[str]:
    """Lines after a prompt in console blocks, joined where they continue, without comments."""
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                yield line.removeprefix("$ ").partition(" #")[0].strip()


def ours(line: str) -> list[str] | None:
    """The arguments of ``ray-mesh`` in a command line, if it has them."""
    found = re.search(r"(?:ray-mesh|python -m ray_mesh)\s+(.*)", line)
    if found is None or line.startswith(("kubectl", "ray exec")):
        return None
    return shlex.split(re.split(r" [>&|;]|\s&$", found[1])[0])


def parse(arguments: list[str]) -> None:
    """Parse without running: help is shown only when every command and option before it exists.

    Raises:
        click.UsageError: there is no such command or option.
    """
    ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
    with contextlib.suppress(click.exceptions.Exit):
        cli.main([*ours, "--help"], prog_name="ray-mesh", standalone_mode=False)


LINES = [(page.name, line) for page in PAGES for line in console_lines(page.read_text()) if ours(line)]


@pytest.mark.parametrize(("page", "line"), LINES)
def test_a_documented_command_exists(page: str, line: str) -> None:
    arguments = ours(line)
    assert arguments
    parse(arguments)


def test_the_parser_of_this_test_refuses_what_does_not_exist() -> None:
    for wrong in (["up", "--no-such-option"], ["no-such-command"]):
        with pytest.raises(click.UsageError):
            parse(wrong)


def test_every_check_has_its_section() -> None:
    source = "".join(path.read_text() for path in (ROOT / "ray_mesh" / "check").glob("*.py"))
    checks = set(re.findall(r'(?:ok|warning|failed|make)\(\s*"(\w+)"', source))
    assert {f"### {name}" for name in checks} <= set(CLUSTER.splitlines())
    assert finding.DOCUMENT == "docs/cluster.md"


def test_the_job_of_kuberay_runs_a_command_that_exists_on_ports_that_are_open() -> None:
    cluster = next(one for one in KUBERAY if one["kind"] == "RayCluster")
    job = next(one for one in KUBERAY if one["kind"] == "RayJob")
    claim = next(one for one in KUBERAY if one["kind"] == "PersistentVolumeClaim")
    arguments = ours(job["spec"]["entrypoint"].replace("\n", " "))
    assert arguments
    parse(arguments)
    assert job["spec"]["clusterSelector"] == {"ray.io/cluster": cluster["metadata"]["name"]}
    pod = cluster["spec"]["headGroupSpec"]["template"]["spec"]
    ports = {one["containerPort"] for one in pod["containers"][0]["ports"]}
    assert int(arguments[arguments.index("--api-port") + 1]) in ports
    assert int(arguments[arguments.index("--ingress") + 1].partition(":")[2]) in ports
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    mount = pod["containers"][0]["volumeMounts"][0]["mountPath"]
    assert arguments[arguments.index("--state-dir") + 1].startswith(mount)
    assert f"{cluster['metadata']['name']}-head-svc" in arguments[arguments.index("--api-name") + 1]


def test_the_slurm_script_runs_commands_that_exist() -> None:
    from ray.scripts.symmetric_run import symmetric_run

    text = (ROOT / "configs" / "ray" / "slurm.sh").read_text()
    for command in re.findall(r"(?:ray-mesh|python -m ray_mesh) [^;&']+", text):
        arguments = ours(command)
        assert arguments
        parse(arguments)
    used = set(re.findall(r"symmetric-run (.*?) -- ", text)[0].split())
    options = {name for option in symmetric_run.params for name in option.opts}
    assert {one for one in used if one.startswith("--")} <= options


def test_the_cluster_file_is_one_for_the_cluster_launcher() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((ROOT / "configs" / "ray" / "cluster.yaml").read_text())
    validate_config(prepare_config(config))
