"""What plain proxying costs on this machine: HAProxy and nginx where they are installed, and a relay that
copies bytes and understands nothing, as the limit.

Run as a program this is the relay: it takes its port and the application's.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from typing import cast

import uvloop
from bench_process import program
from bench_upstream import ADDRESSES

FOLDERS = ("/usr/sbin", "/usr/local/sbin")
"""Where servers are installed that are not on everybody's path."""

_HAPROXY = """global
  nbthread 1
  maxconn 5000
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend in
  bind 127.0.0.1:{port}{called}
  default_backend app
backend app
  balance leastconn
{servers}
"""
_NGINX = """daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr crit;
worker_rlimit_nofile 16000;
events {{ worker_connections 15000; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 10000000;
  upstream app {{ least_conn; {servers} keepalive 256; keepalive_requests 10000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


def find(name: str) -> str | None:
    """The path of a program, or None when it is not installed."""
    return shutil.which(name) or next(
        (found for folder in FOLDERS if (found := shutil.which(name, path=folder))), None
    )


def haproxy(
    path: str, folder: Path, port: int, app_port: int, versions: tuple[bool, bool] = (False, False)
) -> list[str]:
    """How to run HAProxy: one thread, least connections, connections reused. ``versions``: whether it is
    called by HTTP/2, and whether it calls by it."""
    called, calls = (" proto h2" if each else "" for each in versions)
    servers = "\n".join(f"  server s{n} {address}:{app_port}{calls}" for n, address in enumerate(ADDRESSES))
    config = folder / f"haproxy-{port}.cfg"
    config.write_text(_HAPROXY.format(port=port, called=called, servers=servers))
    return [path, "-q", "-db", "-f", str(config)]


def nginx(path: str, folder: Path, port: int, app_port: int) -> list[str]:
    """How to run nginx: one process, least connections, connections reused."""
    servers = " ".join(f"server {address}:{app_port};" for address in ADDRESSES)
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, port=port, servers=servers))
    return [path, "-p", str(folder), "-c", str(config), "-e", "stderr"]


def relay(port: int, app_port: int) -> list[str]:
    """How to run the relay."""
    return program("proxy_plain.py", str(port), str(app_port))


class Side(asyncio.Protocol):
    """One of the two connections of a relayed one; what it reads the other one writes."""

    def __init__(self, other: Side | None, app_port: int) -> None:
        self._other = other
        self._app_port = app_port
        self._early = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self._other is None:
            self._task = asyncio.get_running_loop().create_task(self._connect())
            return
        self._other._other = self
        if self._other._early:
            self.transport.write(self._other._early)

    def data_received(self, data: bytes) -> None:
        other = self._other
        if other is None or other.transport is None:
            self._early += data
        else:
            other.transport.write(data)

    def pause_writing(self) -> None:
        if self._other is not None and self._other.transport is not None:
            self._other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._other is not None and self._other.transport is not None:
            self._other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if self._other is not None and self._other.transport is not None:
            self._other.transport.close()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: Side(self, self._app_port), "127.0.0.1", self._app_port)


async def serve(port: int, app_port: int) -> None:
    """Relay until killed."""
    await asyncio.get_running_loop().create_server(lambda: Side(None, app_port), "127.0.0.1", port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1]), int(sys.argv[2])))
