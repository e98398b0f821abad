"""A nats-server as an administrator runs it for others: own accounts, own credentials, own certificate."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bus_broker import write_certificate

from ray_mesh.bus.credentials import Credential, Login
from ray_mesh.bus.external import ExternalNats
from ray_mesh.bus.server import render_accounts


@dataclass(slots=True)
class OwnNats:
    """One server, or the servers of a cluster. ``control`` and ``proxies`` are the seeds of its two users."""

    folder: Path
    ports: list[int]
    control: Credential
    proxies: Credential
    ca_pem: str = ""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        scheme = "tls" if self.ca_pem else "nats"
        return ",".join(f"{scheme}://127.0.0.1:{port}" for port in self.ports)

    @property
    def ca_file(self) -> Path:
        return self.folder / "broker.pem"

    def settings(self, *, two: bool = True) -> ExternalNats:
        return ExternalNats(self.url, self.ca_pem, has_proxy_login=two)

    def logins(self) -> tuple[Login, Login]:
        return Login(self.control.reveal()), Login(self.proxies.reveal())

    def files(self) -> tuple[Path, Path]:
        """Private files with the two credentials."""
        paths = self.folder / "control.nk", self.folder / "proxies.nk"
        for credential, path in zip((self.control, self.proxies), paths, strict=True):
            credential.write(path)
        return paths

    def start(self, number: int) -> None:
        """Start one server, again after :meth:`kill`, and wait until it answers."""
        binary = Path(sys.executable).with_name("nats-server")
        with (self.folder / f"own{number}.log").open("ab") as log:
            process = subprocess.Popen(
                [binary, "-c", str(self.folder / f"own{number}.conf")], stdout=log, stderr=log
            )
        self.processes[number:] = [process, *self.processes[number + 1 :]]
        _await_port(self.ports[number], process, self.folder)

    def kill(self, number: int) -> None:
        """End one server as a power cut would."""
        os.kill(self.processes[number].pid, signal.SIGKILL)
        self.processes[number].wait()


@contextmanager
def own_nats(
    folder: Path,
    accounts: str = "",
    *,
    two: bool = True,
    size: int = 1,
    tls: bool = True,
    jetstream: bool = True,
    extra: Sequence[str] = (),
) -> Iterator[OwnNats]:
    """A NATS on loopback. ``accounts`` replaces what ``ray-mesh nats-accounts`` would print; ``{control}``
    and ``{proxies}`` in it are the public keys."""
    folder.mkdir(exist_ok=True)
    options = write_certificate(folder)
    control, proxies = Credential.generate(), Credential.generate()
    text = accounts.replace("{control}", control.public).replace("{proxies}", proxies.public)
    text = text or render_accounts(control.public, proxies.public if two else "")
    ports, routes = _free_ports(size), _free_ports(size)
    nats = OwnNats(folder, ports, control, proxies, options.cert_file.read_text() if tls else "")
    try:
        for number in range(size):
            config = [f"server_name: own{number}", "host: 127.0.0.1", f"port: {ports[number]}", *extra, text]
            if tls:
                config.append(f'tls: {{cert_file: "{options.cert_file}", key_file: "{options.key_file}"}}')
            if jetstream:
                config.append(f'jetstream: {{store_dir: "{folder}/store{number}"}}')
            if size > 1:
                others = ", ".join(f"nats://127.0.0.1:{port}" for port in routes)
                config.append(
                    f"cluster: {{name: own, listen: 127.0.0.1:{routes[number]}, routes: [{others}]}}"
                )
            file = folder / f"own{number}.conf"
            file.write_text("\n".join(config))
            nats.start(number)
        yield nats
    finally:
        for process in nats.processes:
            process.terminate()
        for process in nats.processes:
            process.wait(10)


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _await_port(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    while process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5.0) as connection:
                if connection.recv(5) == b"INFO ":
                    return
        except ConnectionRefusedError:
            continue
    raise AssertionError("".join(path.read_text() for path in folder.glob("own*.log")))
