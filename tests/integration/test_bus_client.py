"""The supervised connection on a real broker: losses, refusals, requests, bounded buffers."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgpack
import pytest
from bus_broker import Broker, running_broker, until, write_certificate

from ray_mesh.bus import client, subjects
from ray_mesh.bus.client import Bus, Message, _pace, _pause_s
from ray_mesh.bus.connection import open_connection
from ray_mesh.bus.credentials import BrokerAddress, Credential
from ray_mesh.bus.messages import VERSION, RoleLease, decode, encode
from ray_mesh.bus.outbox import Outbox
from ray_mesh.errors import ConfigError, PolicyDenied, Unavailable


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with running_broker(tmp_path, buckets=False) as started:
        yield started


async def echo(message: Message) -> bytes:
    return message.data


async def test_subscriptions_and_requests_survive_a_killed_broker(broker: Broker) -> None:
    proxy = await broker.join("proxy", "p1")
    ca = await broker.join("ca")
    heard: list[bytes] = []
    restored: list[bool] = []
    await ca.subscribe(subjects.every("lease"), lambda message: heard.append(message.data))
    await ca.serve(subjects.every("csr"), echo, subjects.CSR_QUEUE)
    proxy.on_reconnect(lambda: restored.append(proxy.connected))
    await ca.flush()
    for round_number in range(2):
        await broker.kill()
        await until(lambda: not proxy.connected)
        proxy.publish(subjects.lease("p1"), b"%d" % round_number)
        waiting = asyncio.create_task(proxy.request(subjects.csr("p1"), b"ask", timeout_s=10))
        await broker.start()
        await until(lambda: ca.connected and proxy.connected)
        # The request can reach the broker before the CA is back; then nobody answers.
        await asyncio.gather(waiting, return_exceptions=True)
        assert (await proxy.request(subjects.csr("p1"), b"again")).data == b"again"
        proxy.publish(subjects.lease("p1"), b"after %d" % round_number)
        await until(lambda last=b"after %d" % round_number: last in heard)  # type: ignore[misc]
    assert restored == [True, True]
    assert proxy.counters.reconnects == 2
    assert proxy.dropped == 0
    assert broker.reasons().count("broker_reconnected") >= 4


async def test_a_message_of_a_newer_schema_is_refused_with_an_event_and_the_next_one_is_read(
    broker: Broker,
) -> None:
    routing = await broker.join("routing")
    proxy = await broker.join("proxy", "p1")
    read: list[RoleLease] = []
    await routing.subscribe(
        subjects.every("lease"), lambda message: read.append(decode(RoleLease, message.data))
    )
    await routing.flush()
    lease = RoleLease("proxy", "p1", "e", "0", 1)
    newer = msgpack.packb({"v": [VERSION[0] + 1, 0], "m": {}})
    proxy.publish(subjects.lease("p1"), newer)
    proxy.publish(subjects.lease("p1"), encode(lease))
    await until(lambda: read == [lease])
    assert routing.counters.messages_refused == 1
    assert broker.reasons().count("message_refused") == 1


async def test_a_removed_user_is_cut_and_comes_back_with_its_credential(broker: Broker) -> None:
    observer = await broker.join("observer", "o1")
    other = await broker.join("gateway")
    heard: list[bytes] = []
    await observer.subscribe(f"{subjects.ROOT}.event.>", lambda message: heard.append(message.data))
    assert isinstance(observer._credential, Credential)
    public = observer._credential.public
    permissions = broker.users.pop(public)
    await broker.server.set_users(broker.users)
    await until(lambda: not observer.connected)
    await until(lambda: any("authorization violation" in event.message.lower() for event in broker.events))
    assert other.connected
    broker.users[public] = permissions
    await broker.server.set_users(broker.users)
    await until(lambda: observer.connected)
    other.publish(subjects.event("gateway", "a"), b"hello")
    await until(lambda: heard == [b"hello"])
    assert other.counters.reconnects == 0


async def test_permissions_that_come_late_are_used_at_once(broker: Broker) -> None:
    """A proxy may subscribe before its attestation has reached the broker."""
    credential = await broker.add_user("proxy", "p1", attested=False)
    bus = await broker.connect("proxy", "p1", credential)
    routing = await broker.join("routing", "r1")
    heard: list[bytes] = []
    await bus.subscribe(subjects.every("beacon"), lambda message: heard.append(message.data))
    await until(lambda: "subscribe_refused" in broker.reasons())
    with pytest.raises(PolicyDenied, match="refuses proxy p1 to ask on"):
        await bus.request(subjects.direct_get(subjects.SHARED_BUCKET, "service.a.b"), b"")
    attested = await broker.add_user("proxy", "p1")
    broker.users[credential.public] = broker.users.pop(attested.public)
    await broker.server.set_users(broker.users)

    def has_heard() -> bool:
        routing.publish(subjects.beacon("r1"), b"beacon")
        return bool(heard)

    await until(has_heard, 5)
    assert bus.connected
    assert bus.counters.reconnects == 0


async def test_what_a_handler_raises_reaches_the_asker(broker: Broker) -> None:
    async def refuse(message: Message) -> bytes:
        if message.data == b"denied":
            raise PolicyDenied("no binding covers node n1")
        raise RuntimeError("a secret detail")

    ca = await broker.join("ca")
    proxy = await broker.join("proxy", "p1")
    await ca.serve(subjects.every("csr"), refuse)
    await ca.flush()
    with pytest.raises(PolicyDenied, match="no binding covers node n1"):
        await proxy.request(subjects.csr("p1"), b"denied")
    with pytest.raises(Exception, match="ca a failed") as caught:
        await proxy.request(subjects.csr("p1"), b"broken")
    assert "secret" not in str(caught.value)
    assert ca.counters.callback_errors == 1
    assert ca.connected


async def test_a_failing_callback_ends_nothing(broker: Broker) -> None:
    heard: list[bytes] = []

    def receive(message: Message) -> None:
        heard.append(message.data)
        raise RuntimeError("a mistake")

    ca = await broker.join("ca")
    proxy = await broker.join("proxy", "p1")
    await ca.subscribe(subjects.every("lease"), receive)
    await ca.flush()
    proxy.publish(subjects.lease("p1"), b"1")
    proxy.publish(subjects.lease("p1"), b"2")
    await until(lambda: heard == [b"1", b"2"])
    assert ca.counters.callback_errors == 2
    assert broker.reasons().count("callback_failed") == 2


async def test_requests_fail_with_a_sentence(broker: Broker) -> None:
    gateway = await broker.join("gateway")
    with pytest.raises(Unavailable, match=r"nobody answers on mesh.v1.query.t1"):
        await gateway.request(subjects.query("t1"), b"", timeout_s=1)
    telemetry = await broker.join("telemetry", "t1")
    await telemetry.subscribe(subjects.query("t1"), lambda message: None)
    await telemetry.flush()
    with pytest.raises(Unavailable, match=r"no answer within 0.2 s"):
        await gateway.request(subjects.query("t1"), b"", timeout_s=0.2)
    with pytest.raises(ConfigError, match="more than the broker takes"):
        await gateway.request(subjects.query("t1"), b"x" * (2 << 20))
    await broker.kill()
    await until(lambda: not gateway.connected)
    with pytest.raises(Unavailable, match=r"the broker is away .*refused.*within 0.3 s"):
        await gateway.request(subjects.query("t1"), b"", timeout_s=0.3)


async def test_a_request_in_flight_fails_when_the_broker_dies(broker: Broker) -> None:
    gateway = await broker.join("gateway")
    telemetry = await broker.join("telemetry", "t1")
    asked = asyncio.Event()
    await telemetry.subscribe(subjects.query("t1"), lambda message: asked.set())
    await telemetry.flush()
    waiting = asyncio.create_task(gateway.request(subjects.query("t1"), b"", timeout_s=30))
    await asked.wait()
    await broker.kill()
    with pytest.raises(Unavailable, match="broke"):
        await asyncio.wait_for(waiting, 5)


async def test_the_outbox_is_bounded_and_keeps_the_newest(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "Outbox", lambda: Outbox(max_messages=100))
    proxy = await broker.join("proxy", "p1")
    telemetry = await broker.join("telemetry")
    heard: list[int] = []
    await telemetry.subscribe(subjects.every("telemetry"), lambda message: heard.append(int(message.data)))
    await broker.kill()
    await until(lambda: not proxy.connected and not telemetry.connected)
    for number in range(250):
        proxy.publish(subjects.telemetry("p1"), b"%d" % number)
    assert proxy.dropped == 150
    assert broker.reasons().count("outbox_full") == 1
    await broker.start()
    await until(lambda: proxy.connected and telemetry.connected)
    proxy.publish(subjects.telemetry("p1"), b"999")
    await until(lambda: 999 in heard)
    assert heard == sorted(heard)
    assert min(heard) >= 150


async def test_a_slow_subscriber_does_not_hold_up_publishers(broker: Broker) -> None:
    proxy = await broker.join("proxy", "p1")
    credential = await broker.add_user("telemetry", "slow")
    script = await asyncio.create_subprocess_exec(
        *_sleeping_subscriber(broker, credential),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert script.stdout is not None
        assert script.stdin is not None
        script.stdin.write(credential.reveal().encode() + b"\n")
        assert await asyncio.wait_for(script.stdout.readline(), 20) == b"subscribed\n"
        payload = b"x" * 60_000
        clock = asyncio.get_running_loop().time
        slowest = 0.0
        for _ in range(20):
            for _ in range(50):
                proxy.publish(subjects.telemetry("p1"), payload)
            started = clock()
            assert await proxy.flush(10)
            slowest = max(slowest, clock() - started)
        assert "stalled" not in (broker.options.store / "nats.log").read_text().lower()
        assert slowest < 2
        assert proxy.dropped == 0
    finally:
        script.kill()
        await script.wait()


def _sleeping_subscriber(broker: Broker, credential: Credential) -> list[str]:
    code = (
        "import asyncio, ssl, sys, time, nats\n"
        "async def main():\n"
        "    seed = sys.stdin.readline().strip()\n"
        "    trust = ssl.create_default_context(cafile=sys.argv[2])\n"
        "    nc = await nats.connect(sys.argv[1], tls=trust, nkeys_seed_str=seed)\n"
        "    await nc.subscribe('mesh.v1.telemetry.*')\n"
        "    await nc.flush()\n"
        "    print('subscribed', flush=True)\n"
        "    time.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    return [sys.executable, "-c", code, broker.server.url, str(broker.options.cert_file)]


async def test_a_broker_with_another_certificate_is_refused(broker: Broker, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    address = BrokerAddress(broker.server.url, write_certificate(other).cert_file.read_text())
    with pytest.raises(Unavailable, match="certificate is not the broker's of this mesh"):
        await Bus.connect(address, "observer", "o", Credential.generate(), timeout_s=0.5)


@pytest.mark.parametrize(
    ("greeting", "sentence"),
    [
        (b'INFO {"server_id":"x","version":"2.15.1","nonce":"n","auth_required":true}', "does not offer TLS"),
        (b"INFO []", "no connection"),
        (b"INFO {", "json parse error"),
        (b"HTTP/1.1 400 Bad Request", "expecting INFO"),
        (b"", "expecting INFO"),
    ],
)
async def test_a_strange_server_gets_nothing_signed_and_ends_nothing(
    broker: Broker, greeting: bytes, sentence: str
) -> None:
    """Whoever sits in between could have a nonce of the real broker signed otherwise."""
    received: list[bytes] = []

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting + b"\r\n")
        received.append(await reader.read(1000))
        writer.close()

    server = await asyncio.start_server(pretend, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    address = BrokerAddress(f"tls://127.0.0.1:{port}", broker.address.ca_pem)
    with pytest.raises(Unavailable, match=sentence):
        await Bus.connect(address, "observer", "o", Credential.generate(), timeout_s=0.5)
    server.close()
    await until(lambda: len(received) > 1)
    assert set(received) == {b""}


async def test_a_broker_that_has_no_time_is_asked_ever_less_often(broker: Broker) -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    url = f"tls://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    address = BrokerAddress(url, broker.address.ca_pem)
    with pytest.raises(Unavailable, match="no answer within 5 s") as overloaded:
        await open_connection(address, Credential.generate(), "o", lambda error: None)
    server.close()
    with pytest.raises(Unavailable, match="connection refused") as away:
        await open_connection(address, Credential.generate(), "o", lambda error: None)
    longest = [
        [max(_pause_s(failures, _pace(one.value)) for _ in range(200)) for failures in (1, 3, 9)]
        for one in (overloaded, away)
    ]
    assert longest[0][0] < 1.0 < longest[0][1] < 4.0 < longest[0][2] < 10.0
    assert longest[1][2] < 0.5, "it may be back at any moment"


async def test_what_cannot_be_sent_is_counted_and_ends_nothing(broker: Broker) -> None:
    proxy = await broker.join("proxy", "p1")
    telemetry = await broker.join("telemetry")
    heard: list[bytes] = []
    await telemetry.subscribe(subjects.every("telemetry"), lambda message: heard.append(message.data))
    await telemetry.flush()
    proxy.publish(subjects.telemetry("p1"), b"x" * (2 << 20))
    proxy.publish("a b", b"")
    proxy.publish(subjects.telemetry("p1"), "text")  # type: ignore[arg-type]
    proxy.publish(subjects.telemetry("p1"), b"good")
    await until(lambda: heard == [b"good"])
    assert proxy.dropped == 3
    for subject in ("", "a..b", "a b", "a.>.b", "x>", "a\r\nSUB > 1"):
        with pytest.raises(ConfigError, match="cannot be subscribed"):
            await proxy.subscribe(subject, lambda message: None)
    assert proxy.counters.reconnects == 0


async def test_a_bus_can_be_closed_at_any_moment(broker: Broker) -> None:
    """Also while nats-py is connecting, and swallows the cancellation."""
    credential = await broker.add_user("observer", "o")
    before = len(asyncio.all_tasks())
    for is_up in (True, False):
        if not is_up:
            await broker.kill()
        for step in range(25):
            bus = await Bus.connect(broker.address, "observer", "o", credential, timeout_s=0)
            await asyncio.sleep(step * 0.001)
            await asyncio.wait_for(bus.close(), 10)
            with pytest.raises(Unavailable, match="closed"):
                await bus.send("x", b"")
    await until(lambda: len(asyncio.all_tasks()) <= before)


async def test_connecting_to_nobody_says_so(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ca_pem = write_certificate(tmp_path).cert_file.read_text()
    credential = Credential.generate()
    with pytest.raises(Unavailable, match=f"127.0.0.1:{port}.*refused"):
        await Bus.connect(
            BrokerAddress(f"tls://127.0.0.1:{port}", ca_pem), "observer", "o", credential, timeout_s=0.3
        )
    with pytest.raises(ConfigError, match="not a PEM certificate"):
        await Bus.connect(BrokerAddress(f"tls://127.0.0.1:{port}", "nonsense"), "observer", "o", credential)
    with pytest.raises(ConfigError, match="write tls://host:port"):
        await Bus.connect(BrokerAddress("http://x", ca_pem), "observer", "o", credential)
