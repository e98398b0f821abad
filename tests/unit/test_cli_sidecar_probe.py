"""What the probe options of `ray-mesh sidecar` ask for."""

from __future__ import annotations

import click
import pytest

from ray_mesh.cli.sidecar import _probe
from ray_mesh.sidecar.run import _commands


def test_each_option_is_a_probe_of_a_workload_group() -> None:
    assert _probe("", None, "", "", 10, 8080) == {}
    assert _probe("/healthz", None, "", "", 5, 8080) == {
        "httpGet": {"path": "/healthz", "port": 8080},
        "periodSeconds": 5,
    }
    assert _probe("8081/x", None, "", "", 10, 0)["httpGet"] == {"path": "/x", "port": 8081}
    assert _probe("", 9000, "", "", 10, 8080)["tcpSocket"] == {"port": 9000}
    assert _probe("", None, "/", "", 10, 8080)["grpc"] == {"service": "", "port": 8080}
    assert _probe("", None, "81/a.B", "", 10, 0)["grpc"] == {"service": "a.B", "port": 81}
    command = _probe("", None, "", "check --all 'a b'", 10, 8080)
    assert command["exec"] == {"command": ["check", "--all", "a b"]}
    assert _commands(command) == (("check", "--all", "a b"),)
    assert _commands(_probe("/", None, "", "", 10, 8080)) == ()


@pytest.mark.parametrize(
    ("http", "tcp", "grpc", "command", "port", "says"),
    [
        ("healthz", None, "", "", 8080, "write a path"),
        ("x/healthz", None, "", "", 8080, "write a path"),
        ("/healthz", None, "", "", 0, "write a path"),
        ("/healthz", 80, "", "", 8080, "use one of"),
        ("/healthz", None, "/", "", 8080, "use one of"),
        ("", None, "a.B", "", 8080, "write /, 8081/"),
        ("", None, "/a.B", "", 0, "write /, 8081/"),
        ("", None, "", "unclosed '", 8080, "No closing quotation"),
    ],
)
def test_what_is_no_probe_is_refused(
    http: str, tcp: int | None, grpc: str, command: str, port: int, says: str
) -> None:
    with pytest.raises(click.UsageError, match=says):
        _probe(http, tcp, grpc, command, 10, port)
