"""Who may use the API, and how waiting works, without a broker."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from ray_mesh.errors import ConfigError, PolicyDenied, Unauthenticated
from ray_mesh.gateway.access import check_host, check_token
from ray_mesh.gateway.admission import key_of
from ray_mesh.gateway.changes import Changes
from ray_mesh.gateway.workloads import read_attach

DIGEST = hashlib.sha256(b"right").digest()
BODY = {"service": "reviews", "version": "v1", "port": 9080, "node": "n1"}


@pytest.mark.parametrize("host", ["localhost:4000", "127.0.0.1:4000", "[::1]:4000", "LocalHost:4000"])
def test_loopback_names_are_this_api(host: str) -> None:
    check_host(host, 4000)


@pytest.mark.parametrize(
    "host", ["", "localhost", "localhost:80", "evil.example:4000", "127.0.0.1:4000.evil", "127.0.0.2:4000"]
)
def test_other_hosts_are_refused(host: str) -> None:
    with pytest.raises(PolicyDenied, match="does not answer as"):
        check_host(host, 4000)


def test_port_80_needs_no_port() -> None:
    check_host("localhost", 80)


def test_the_token_opens() -> None:
    check_token("Bearer right", DIGEST)
    check_token("bearer right", DIGEST)


@pytest.mark.parametrize(
    "header", ["", "right", "Bearer", "Bearer ", "Bearer wrong", "Basic right", "Bearer \udcff"]
)
def test_nothing_else_opens(header: str) -> None:
    with pytest.raises(Unauthenticated):
        check_token(header, DIGEST)


def test_keys_take_the_kind_in_any_case() -> None:
    assert key_of("virtualSERVICE", "default", "a") == "virtualservice.default.a"
    with pytest.raises(ConfigError, match="one of AuthorizationPolicy"):
        key_of("Pod", "default", "a")


def test_attach_requests_have_defaults() -> None:
    wanted = read_attach({**BODY, "gatewayPorts": {"8080": 0}})
    assert (wanted.name, wanted.namespace, wanted.service_account) == ("reviews-v1", "default", "default")
    assert wanted.gateway_ports == ((8080, 0),)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "JSON object"),
        ({"service": "a"}, r"missing fields \['node', 'port', 'version'\]"),
        ({**BODY, "colour": "blue"}, r"unknown fields \['colour'\]"),
        ({**BODY, "port": True}, "port is True, expected int"),
        ({**BODY, "labels": []}, "labels is "),
        ({**BODY, "gatewayPorts": {"http": 1}}, "gatewayPorts maps"),
        ({**BODY, "gatewayPorts": {"8080": "x"}}, "gatewayPorts maps"),
    ],
)
def test_attach_requests_are_checked(body: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_attach(body)


async def test_waiting_ends_at_the_change_or_at_the_deadline() -> None:
    changes = Changes()
    done: list[int] = []
    waiting = asyncio.create_task(changes.wait_until(lambda: bool(done), 10.0))
    await asyncio.sleep(0)
    done.append(1)
    changes.notify()
    assert await asyncio.wait_for(waiting, 1.0)
    assert await changes.wait_until(lambda: True, 0.0)
    assert not await changes.wait_until(lambda: False, 0.01)
