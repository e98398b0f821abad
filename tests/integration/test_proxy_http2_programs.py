"""Programs that others wrote, by HTTP/2 over TLS through a gateway: curl, nghttp, h2load, and a browser."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from certificates import Issuer
from proxy_mesh import App, Mesh, free_port, host_of, mesh  # noqa: F401

from ray_mesh.snapshot import (
    Destination,
    Gateway,
    GatewayServer,
    Route,
    SecureServer,
    ServerTls,
    VirtualHost,
)

# ruff: noqa: F811

NAME = "shop.example.com"
REVIEWS = host_of("reviews")
PATIENCE_S = 60.0
PAGE = b"""<!doctype html><title>shop</title><pre id="told"></pre><script>
const protocol = kind => performance.getEntriesByType(kind)[0].nextHopProtocol;
fetch("/posted", {method: "POST", body: "x".repeat(100000)}).then(answer => answer.text()).then(text => {
  const told = [text, protocol("navigation"), protocol("resource")];
  document.getElementById("told").textContent = told.join(" ");
});
</script>"""


def needs(program: str, package: str) -> pytest.MarkDecorator:
    """Skip where a program of Debian is not installed."""
    reason = f"needs {program} (apt install {package})"
    return pytest.mark.skipif(shutil.which(program) is None, reason=reason)


async def shop(mesh: Mesh, folder: Path, app: App) -> int:
    """A gateway that serves an HTTP/1.1 application over TLS; its port."""
    port = free_port()
    await mesh.workload("edge", free_port(), node="one", gateway_ports=((443, port),))
    await mesh.workload("reviews", app.port, services=(REVIEWS,))
    mesh.service("reviews", [mesh.endpoint("reviews")])
    certificate, key = Issuer(folder).issue(NAME)
    hosts = (VirtualHost((NAME,), (Route("all", "", (), (Destination(REVIEWS),)),)),)
    secure = SecureServer((NAME,), ServerTls("SIMPLE", str(certificate), str(key)), hosts)
    servers = (GatewayServer(443, (), (secure,)),)
    mesh.planes["one"].apply("gateway.default.edge", Gateway("default", "edge", servers))
    return port


async def run(program: str, *arguments: str) -> str:
    """What a program prints. It must succeed."""
    child = await asyncio.create_subprocess_exec(
        program, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            told, complaints = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode == 0, f"{told.decode()}\n{complaints.decode()}"
    return told.decode()


@needs("curl", "curl")
async def test_curl(mesh: Mesh, tmp_path: Path) -> None:
    port = await shop(mesh, tmp_path, await mesh.app("reviews"))
    (tmp_path / "body").write_bytes(b"b" * 300_000)
    common = ("-s", "--http2", "--cacert", f"{tmp_path}/ca.pem", "--resolve", f"{NAME}:{port}:127.0.0.1")
    url = f"https://{NAME}:{port}/x"
    told = await run("curl", *common, "-w", "\\n%{http_version} %{http_code}", url)
    answer, _, version = told.rpartition("\n")
    assert version == "2 200"
    assert json.loads(answer)["line"] == "GET /x HTTP/1.1"
    told = await run("curl", *common, "-H", "Expect:", "--data-binary", f"@{tmp_path}/body", url)
    assert len(json.loads(told)["body"]) == 300_000
    told = await run("curl", *common, "-H", "Expect: 100-continue", "-d", "small", url)
    assert json.loads(told)["body"] == "small"
    told = await run("curl", *common, "--http1.1", "-w", "\\n%{http_version}", url)
    assert told.endswith("\n1.1")
    told = await run("curl", *common, "-I", url)
    assert told.startswith("HTTP/2 200")


@needs("nghttp", "nghttp2-client")
async def test_nghttp(mesh: Mesh, tmp_path: Path) -> None:
    port = await shop(mesh, tmp_path, await mesh.app("reviews"))
    url = f"https://127.0.0.1:{port}/x"
    told = await run("nghttp", "-v", "--no-verify-peer", "-H", f":authority: {NAME}", url)
    assert "The negotiated protocol: h2" in told
    assert ":status: 200" in told
    assert "NO_ERROR" in told


@needs("h2load", "nghttp2-client")
async def test_h2load(mesh: Mesh, tmp_path: Path) -> None:
    port = await shop(mesh, tmp_path, await mesh.app("reviews"))
    load = ("-n", "500", "-c", "5", "-m", "20", f"--connect-to=127.0.0.1:{port}")
    told = await run("h2load", *load, f"https://{NAME}/x")
    assert "Application protocol: h2" in told
    assert "500 succeeded, 0 failed, 0 errored" in told
    assert "status codes: 500 2xx" in told


async def _page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if head.startswith(b"post /posted "):
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            body = b"%d" % len(await reader.readexactly(length))
        else:
            body = PAGE
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )


@pytest.mark.slow
@needs("chromium", "chromium")
async def test_a_browser(mesh: Mesh, tmp_path: Path) -> None:
    port = await shop(mesh, tmp_path, await mesh.app("reviews", _page))
    told = await run(
        "chromium",
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-first-run",
        "--ignore-certificate-errors",
        f"--user-data-dir={tmp_path}/profile",
        f"--host-resolver-rules=MAP {NAME} 127.0.0.1, EXCLUDE localhost, MAP * ~NOTFOUND",
        "--virtual-time-budget=15000",
        "--dump-dom",
        f"https://{NAME}:{port}/page",
    )
    assert '<pre id="told">100000 h2 h2</pre>' in told, told
