"""Programs outside Ray in a running mesh: called and calling over mutual TLS, signalled, and gone."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

import grpc
from mesh_site import Site, eventually
from sidecar_process import CALLER, GRPC_SERVER, SERVER, Sidecar, call, free_port, running


def token(site: Site, account: str = "default/default") -> str:
    return site.mesh.create_token(account)


def nodes(site: Site) -> set[str]:
    return {proxy.node for proxy in site.mesh.proxies()}


def workloads(site: Site) -> set[str]:
    return {one.name for one in site.mesh.list("Workload")}


def serving(sidecar: Sidecar) -> bool:
    assert sidecar.process.poll() is None, sidecar.said()
    return "serving" in sidecar.said()


def verified(site: Site, source: str, destination: str) -> bool:
    """Whether both sides of an edge report a mutual TLS that they verified."""
    edges = [e for e in site.mesh.graph(0).edges if e.source.endswith(source)]
    return any(destination in str(edge) and edge.mtls for edge in edges)


def test_a_workload_of_the_mesh_calls_a_sidecar_over_mutual_tls(site: Site, tmp_path: Path) -> None:
    port, api = free_port(), site.running.state.api
    options = {"service": "outside", "port": port, "node": "sidecar-outside"}
    with (
        running(api, token(site), tmp_path, options, sys.executable, "-c", SERVER, str(port)) as sidecar,
        site.mesh.attach("insider", "v1", 0) as insider,
    ):
        eventually(lambda: serving(sidecar), timeout_s=30.0)
        answer = eventually(lambda: (a := call(insider.http_proxy, "http://outside/x"))[0] == 200 and a)
        assert answer == (200, "echo of /x")
        assert "sidecar-outside" in nodes(site)
        eventually(lambda: verified(site, "insider-v1", "outside-v1"))
        sidecar.process.send_signal(signal.SIGTERM)
        assert sidecar.process.wait(30.0) == 3, sidecar.said()
        assert "outside-v1" not in workloads(site)
    eventually(lambda: "sidecar-outside" not in nodes(site))


def test_a_sidecar_of_a_grpc_server_is_called_once_its_health_service_says_so(
    site: Site, tmp_path: Path
) -> None:
    port, api = free_port(), site.running.state.api
    options = {"service": "stock", "port": port, "protocol": "grpc", "probe-grpc": "/"}
    with (
        running(api, token(site), tmp_path, options, sys.executable, "-c", GRPC_SERVER, str(port)) as sidecar,
        site.mesh.attach("buyer", "v1", 0) as buyer,
        buyer.grpc_channel("stock:80") as channel,
    ):
        eventually(lambda: serving(sidecar), timeout_s=30.0)
        say = channel.unary_unary("/test.Echo/Say")

        def answer() -> bytes:
            with contextlib.suppress(grpc.RpcError):  # until its proxy has asked it
                return bytes(say(b"hello", timeout=10.0, wait_for_ready=True))
            return b""

        assert eventually(answer, timeout_s=20.0) == b"hello"
        assert site.mesh.get("Service", "stock").manifest["spec"]["ports"][0]["name"] == "grpc"
        eventually(lambda: verified(site, "buyer-v1", "stock-v1"))


def test_a_sidecar_calls_a_workload_of_the_mesh(site: Site, tmp_path: Path) -> None:
    options = {"service": "visitor", "port": 0, "node": "sidecar-visitor"}
    url = "http://reviews:9080/reviews/0"
    api = site.running.state.api
    with running(api, token(site), tmp_path, options, sys.executable, "-c", CALLER, url) as sidecar:
        assert sidecar.process.wait(45.0) == 0, sidecar.said()
        assert '"reviewer"' in sidecar.said()
        eventually(lambda: verified(site, "visitor-v1", "reviews"))


def test_the_exit_code_is_handed_on_and_the_command_never_sees_the_token(site: Site, tmp_path: Path) -> None:
    program = (
        "import os, sys; print(sorted(n for n in os.environ if 'JOIN' in n), os.environ['no_proxy']);"
        "sys.exit(7 if os.environ['http_proxy'].startswith('http://quick-v1:') else 1)"
    )
    options = {"service": "quick", "port": 0, "node": "sidecar-quick"}
    with running(
        site.running.state.api, token(site), tmp_path, options, sys.executable, "-c", program
    ) as sidecar:
        assert sidecar.process.wait(45.0) == 7, sidecar.said()
        assert "[] localhost,127.0.0.1" in sidecar.said()


def test_without_a_binding_it_is_refused_with_a_sentence(site: Site, tmp_path: Path) -> None:
    options = {
        "service": "unbound",
        "port": 0,
        "service-account": "stranger",
        "node": "sidecar-unbound",
    }
    with running(
        site.running.state.api, token(site, "default/stranger"), tmp_path, options, "true"
    ) as sidecar:
        assert sidecar.process.wait(45.0) == 4
        assert "default/stranger may not run on node sidecar-unbound" in sidecar.said()
    eventually(lambda: "sidecar-unbound" not in nodes(site))


def test_the_name_of_a_workload_of_others_is_refused(site: Site, tmp_path: Path) -> None:
    options = {"service": "reviews", "port": 1, "node": "sidecar-thief"}
    with running(site.running.state.api, token(site), tmp_path, options, "true") as sidecar:
        assert sidecar.process.wait(45.0) == 1
        assert "choose another --name" in sidecar.said()


def test_a_new_controller_keeps_the_sidecar_and_lets_it_leave(site: Site, tmp_path: Path) -> None:
    port, api = free_port(), site.running.state.api
    options = {"service": "stayer", "port": port, "node": "sidecar-stayer"}
    with running(api, token(site), tmp_path, options, sys.executable, "-c", SERVER, str(port)) as sidecar:
        eventually(lambda: serving(sidecar), timeout_s=30.0)
        controller = next(one.pid for one in site.mesh.status().actors if one.role == "controller")
        os.kill(controller, signal.SIGKILL)
        eventually(lambda: site.status_from_another_controller(controller), timeout_s=30.0)
        with site.mesh.attach("caller", "v1", 0) as caller:
            assert call(caller.http_proxy, "http://stayer/") == (200, "echo of /")
        sidecar.process.terminate()
        assert sidecar.process.wait(30.0) == 3
        assert "could not" not in sidecar.said()
