"""Tables, formats, usage and exit codes, without a mesh."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
import yaml

from ray_mesh import errors
from ray_mesh.cli import exits
from ray_mesh.cli.main import cli, run
from ray_mesh.cli.output import render, show, to_plain
from ray_mesh.errors import MeshError
from ray_mesh.sdk.answers import Change


def test_render_aligns_and_cannot_be_broken_by_a_cell() -> None:
    text = render(("NAME", "AGE"), [("a", 1), ("long\nname\x1b[2J", "")])
    assert text == "NAME           AGE\na              1\nlong name [2J  -"
    assert render(("NAME",), []) == ""


def test_show_in_every_form(capsys: pytest.CaptureFixture[str]) -> None:
    value = (Change("Service", "default", "a", "created"),)
    show(value, "json", str)
    assert json.loads(capsys.readouterr().out) == to_plain(value)
    show(value, "yaml", str)
    assert yaml.safe_load(capsys.readouterr().out) == to_plain(value)
    show(value, "table", lambda: "text")
    assert capsys.readouterr().out == "text\n"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.NotFound, 3),
        (errors.Unauthenticated, 4),
        (errors.PolicyDenied, 4),
        (errors.Unavailable, 5),
        (errors.ConfigError, 65),
        (errors.NotSupported, 65),
        (errors.Rejected, 65),
        (errors.Conflict, 1),
        (errors.PeerError, 1),
        (errors.MeshError, 1),
    ],
)
def test_exit_codes(kind: type[MeshError], code: int) -> None:
    assert exits.exit_code(kind("x")) == code


@pytest.mark.parametrize(
    "arguments",
    [["no-such-command"], ["apply"], ["wait"], ["wait", "--revision", "x"], ["status", "-o", "xml"]],
)
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == exits.USAGE
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("arguments", [["up", "--ingress", "x"], ["up", "--ingress", "70000"]])
def test_port_pairs_are_checked(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == exits.USAGE
    assert "--ingress" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["table", "json", "yaml"])
@pytest.mark.parametrize("command", [["status"], ["proxies"], ["graph"], ["events"], ["get", "Service"]])
def test_no_mesh_is_5_in_every_form(
    command: list[str], form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--state", str(tmp_path / "none.json"), *command, "-o", form]) == 5
    output = capsys.readouterr()
    assert output.out == ""
    assert "ray-mesh up" in output.err


def test_an_unreachable_mesh_and_a_public_state_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mesh.json"
    path.write_text("{}")
    path.chmod(0o644)
    assert run(["--state", str(path), "status"]) == 65
    assert "chmod 600" in capsys.readouterr().err


def test_version_without_a_mesh_still_tells_the_clients(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--state", str(tmp_path / "none.json"), "version", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["mesh"] == ""


def test_help_says_everything_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in cli.commands)
    for name, command in cli.commands.items():
        assert command.help, name
        options = [one for one in command.params if isinstance(one, click.Option)]
        assert all(one.help for one in options), name
