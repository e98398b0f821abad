"""``ray-mesh analyze --offline``: exit codes, what is printed, and which files are read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from analyze_cases import CASES

from ray_mesh.cli.main import run

BROKEN = CASES["no host"][0]
WARNED = CASES["a rule for nobody"][0]


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("form", ["table", "json", "yaml"])
@pytest.mark.parametrize(
    ("text", "options", "code"),
    [
        (BROKEN, [], 79),
        (BROKEN, ["--output-threshold", "error"], 79),
        (BROKEN, ["-S", "IST0101=VirtualService/default/*"], 0),
        (BROKEN, ["-n", "other"], 0),
        (WARNED, [], 0),
        (WARNED, ["--failure-threshold", "warning"], 79),
        (WARNED, ["--failure-threshold", "Info", "--output-threshold", "error"], 79),
        (CASES["all is well"][0], ["--failure-threshold", "info"], 0),
    ],
)
def test_the_exit_code(tmp_path: Path, form: str, text: str, options: list[str], code: int) -> None:
    assert run(["analyze", "--offline", "-f", write(tmp_path, "m.yaml", text), "-o", form, *options]) == code


def test_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, "m.yaml", BROKEN)
    assert run(["analyze", "--offline", path]) == 79
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        f"error [IST0101] VirtualService default/r ({path}:14:57 spec.http[0].route[0].destination.host)",
        '    Referenced host not found: "nowhere" (nowhere.default.svc.cluster.local)',
        "    why: what refers to it cannot do what it says",
        "    fix: apply the Service first, or with it",
    ]
    assert shown.err == "2 documents: 1 error\n"
    run(["analyze", "--offline", path, "-o", "yaml"])
    report = yaml.safe_load(capsys.readouterr().out)
    assert report["counts"] == {"error": 1, "warning": 0, "info": 0, "suppressed": 0}
    run(["analyze", "--offline", path, "-S", "*=*", "--show-suppressed"])
    shown = capsys.readouterr()
    assert shown.out.startswith("suppressed error [IST0101] VirtualService default/r (")
    assert shown.err == "2 documents: no findings, 1 suppressed\n"


def test_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "a.yaml", WARNED)
    write(tmp_path, "below/b.yml", BROKEN)
    write(tmp_path, "readme.txt", "{{{")
    assert run(["analyze", "--offline", "-f", str(tmp_path), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["documents"] == 1
    assert run(["analyze", "--offline", "-f", str(tmp_path), "-R", "-o", "json"]) == 79
    assert json.loads(capsys.readouterr().out)["documents"] == 3


def test_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["analyze", "--offline"]) == 2
    assert run(["analyze", "--offline", "-f", str(tmp_path / "none.yaml")]) == 65
    assert run(["analyze", "--offline", write(tmp_path, "m.yaml", BROKEN), "-S", "IST0101"]) == 2
    assert "write CODE=KIND/NAMESPACE/NAME" in capsys.readouterr().err


def test_offline_needs_no_ray_and_no_nats(tmp_path: Path) -> None:
    path = write(tmp_path, "m.yaml", WARNED)
    program = (
        "import sys\nfrom ray_mesh.cli.main import run\n"
        f"code = run(['analyze', '--offline', {path!r}, '-o', 'json'])\n"
        "print(sorted({'ray', 'nats', 'aiohttp'} & set(sys.modules)), code, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr.splitlines()[-1] == "[] 0"
