"""The embedded broker as a process: port, reload, log, life and death."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from bus_broker import Broker, running_broker, until, write_certificate

from ray_mesh.bus import server as server_module
from ray_mesh.bus.credentials import Credential
from ray_mesh.bus.permissions import Permissions, permissions
from ray_mesh.bus.server import BrokerOptions, BrokerServer, find_binary, log_file
from ray_mesh.errors import ConfigError, Unavailable


async def test_a_restarted_broker_is_found_at_the_same_port(tmp_path: Path) -> None:
    options = write_certificate(tmp_path)
    user = {Credential.generate().public: permissions("gateway", "a")}
    first = BrokerServer(options)
    await first.start(user)
    url = first.url
    await first.stop()
    second = BrokerServer(options)
    await second.start(user)
    try:
        assert second.url == url
        for file in options.store.glob("*.conf"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(options.store.stat().st_mode) == 0o700
    finally:
        await second.stop()


async def test_a_store_with_an_odd_name_works(tmp_path: Path) -> None:
    folder = tmp_path / "a \"b\" $HOME 'c' \\d #e"
    folder.mkdir()
    server = BrokerServer(write_certificate(folder))
    await server.start({Credential.generate().public: permissions("gateway", "a")})
    try:
        assert log_file(server.options).exists()
        assert (folder / "store" / "jetstream").is_dir()
    finally:
        await server.stop()


async def test_a_taken_port_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "START_TIMEOUT_S", 1.0)
    options = write_certificate(tmp_path)
    options.store.mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        (options.store / "port").write_text(str(taken.getsockname()[1]))
        with pytest.raises(Unavailable, match="is taken by another program"):
            await BrokerServer(options).start({})
    (options.store / "port").write_text("no port")
    with pytest.raises(ConfigError, match="holds no port"):
        await BrokerServer(options).start({})


async def test_an_unusable_certificate_is_explained(tmp_path: Path) -> None:
    options = write_certificate(tmp_path)
    options.cert_file.write_text("no certificate")
    with pytest.raises(ConfigError, match="nats-server ended with status"):
        await BrokerServer(options).start({})


async def test_a_failed_reload_keeps_the_old_users(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    await broker.start()
    try:
        gateway = await broker.join("gateway")
        bad = {**broker.users, Credential.generate().public: Permissions(("a..b",), ("x",))}
        with pytest.raises(ConfigError, match="keeps its old users"):
            await broker.server.set_users(bad)
        with pytest.raises(ConfigError, match="not the public NKEY"):
            await broker.server.set_users({"U" + "A" * 55: Permissions(("a",), ("b",))})
        assert gateway.connected
        await broker.kill()
        with pytest.raises(Unavailable, match="not running"):
            await broker.server.set_users(broker.users)
        await broker.start()
        await until(lambda: gateway.connected)
    finally:
        await broker.end()


async def test_no_user_gets_in_without_a_known_key(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    await broker.start()
    try:
        with pytest.raises(Unavailable, match=r"[Aa]uthorization [Vv]iolation"):
            await broker.connect("gateway", "a", Credential.generate(), timeout_s=0.5)
    finally:
        await broker.end()


def test_the_broker_dies_with_its_parent(tmp_path: Path) -> None:
    options = write_certificate(tmp_path)
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from ray_mesh.bus.server import BrokerOptions, BrokerServer\n"
        "async def main():\n"
        "    paths = map(Path, sys.argv[1:])\n"
        "    server = BrokerServer(BrokerOptions(*paths))\n"
        "    await server.start({})\n"
        "    print(server.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", code, *map(str, (options.store, options.cert_file, options.key_file))]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(child, 0)
        parent.send_signal(signal.SIGKILL)
        parent.wait(10)
        asyncio.run(until(lambda: not _is_running(child)))
    finally:
        parent.kill()
        parent.wait()


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_the_binary_is_found_and_checked(tmp_path: Path) -> None:
    assert (await find_binary()).endswith("nats-server")
    with pytest.raises(ConfigError, match="no nats-server binary"):
        await find_binary(str(tmp_path / "missing"))
    old = tmp_path / "old"
    old.write_text("#!/bin/sh\necho nats-server: v2.9.1\n")
    old.chmod(0o755)
    with pytest.raises(ConfigError, match=r"2.12 or newer"):
        await find_binary(str(old))


async def test_an_end_is_noticed(tmp_path: Path) -> None:
    options: BrokerOptions = write_certificate(tmp_path)
    server = BrokerServer(options)
    with pytest.raises(Unavailable):
        await server.wait_dead()
    await server.start({})
    waiting = asyncio.create_task(server.wait_dead())
    os.kill(server.pid, signal.SIGKILL)
    assert await asyncio.wait_for(waiting, 5) == -signal.SIGKILL
    assert server.pid == 0
    await server.stop()


async def test_a_renewed_certificate_is_shown_to_new_clients_and_nobody_is_cut(tmp_path: Path) -> None:
    async with running_broker(tmp_path, buckets=False) as broker:
        before = await shown_certificate(broker)
        old = await broker.join("gateway")
        write_certificate(tmp_path)
        await broker.server.renew()
        after = await shown_certificate(broker)
        assert after != before
        assert ssl.PEM_cert_to_DER_cert(broker.options.cert_file.read_text()) == after
        await old.flush()
        await broker.join("gateway", "b")
        assert broker.reasons() == []


async def shown_certificate(broker: Broker) -> bytes:
    """What the broker shows during the handshake, after its greeting in plaintext."""
    reader, writer = await asyncio.open_connection("127.0.0.1", broker.server.port)
    await reader.readline()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    await writer.start_tls(context)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    assert isinstance(shown, bytes)
    return shown
