"""``ray-mesh sidecar`` as a process, for the tests of this folder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

SERVER = """
import os, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Echo(BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"echo of {self.path}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
print("serving", flush=True)
HTTPServer(("127.0.0.1", int(sys.argv[1])), Echo).serve_forever()
"""

GRPC_SERVER = """
import sys
from concurrent.futures import ThreadPoolExecutor
import grpc
def handler(service, method, answer):
    behavior = grpc.unary_unary_rpc_method_handler(lambda request, context: answer or request)
    return grpc.method_handlers_generic_handler(service, {method: behavior})
server = grpc.server(ThreadPoolExecutor(4))
server.add_generic_rpc_handlers((
    handler("test.Echo", "Say", b""), handler("grpc.health.v1.Health", "Check", bytes([8, 1]))
))
assert server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
print("serving", flush=True)
server.wait_for_termination()
"""

CALLER = """
import sys
from urllib.request import urlopen
print(urlopen(sys.argv[1], timeout=20).read().decode())
"""


@dataclass(slots=True)
class Sidecar:
    """A running sidecar. ``output`` has what it and its command wrote."""

    process: subprocess.Popen[bytes]
    output: Path

    def said(self) -> str:
        """All that it wrote so far."""
        return self.output.read_text()


def start(
    api: str, token: str, folder: Path, options: Mapping[str, object], *command: str
) -> subprocess.Popen[bytes]:
    """Start a sidecar; what it writes goes to ``folder / "<service>.out"``."""
    arguments = [f"--{name}={value}" for name, value in options.items()]
    environment = {**os.environ, "RAY_MESH_JOIN_TOKEN": token, "RAY_MESH_API": api}
    with (folder / f"{options['service']}.out").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "ray_mesh", "sidecar", *arguments, "--", *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


@contextmanager
def running(
    api: str, token: str, folder: Path, options: Mapping[str, object], *command: str
) -> Iterator[Sidecar]:
    """A sidecar that is ended at the end of the block, if it still runs."""
    process = start(api, token, folder, options, *command)
    try:
        yield Sidecar(process, folder / f"{options['service']}.out")
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30.0)


def free_port() -> int:
    """A port that was free a moment ago, for a program that cannot take any."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def call(http_proxy: str, url: str) -> tuple[int, str]:
    """Status and body of one request through a workload's proxy."""
    try:
        with build_opener(ProxyHandler({"http": http_proxy})).open(url, timeout=20.0) as response:
            return response.status, response.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()
