"""Messages: round trip, versions, and nothing half-read."""

from __future__ import annotations

import msgpack
import pytest

from ray_mesh.bus import messages
from ray_mesh.bus.envelope import ERROR_HEADER, Message
from ray_mesh.bus.messages import Event, RoleLease, decode, encode
from ray_mesh.bus.outbox import Letter, Outbox
from ray_mesh.bus.store import check_key, entry_of, is_under, predecessor_of
from ray_mesh.errors import ConfigError, Conflict, MeshError, PeerError

LEASE = RoleLease("ca", "a", "e", "0.1.0", 7, True)


def plain(version: object, body: object) -> bytes:
    return msgpack.packb({"v": version, "m": body})  # type: ignore[no-any-return]


def body() -> dict[str, object]:
    return {"role": "ca", "instance": "a", "epoch": "e", "version": "0.1.0", "pid": 7, "leaving": True}


def test_the_version_is_in_front_and_any_reader_can_read_it() -> None:
    assert msgpack.unpackb(encode(LEASE)) == {"v": list(messages.VERSION), "m": body()}
    assert decode(RoleLease, encode(LEASE)) == LEASE


def test_a_newer_major_version_is_refused_and_a_newer_minor_read() -> None:
    major, minor = messages.VERSION
    with pytest.raises(PeerError, match="upgrade the older side"):
        decode(RoleLease, plain([major + 1, 0], body()))
    assert decode(RoleLease, plain([major, minor + 1], body())) == LEASE


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        b"text",
        msgpack.packb([]),
        msgpack.packb({"v": [1, 0]}),
        msgpack.packb({"m": {}}),
        plain(1, {}),
        plain(["1", 0], {}),
        plain([1, 0], []),
        plain([1, 0], {**body(), "pid": "7"}),
        plain([1, 0], {**body(), "more": 1}),
        plain([1, 0], {"role": "ca"}),
        encode(LEASE) + b"\x00",
        encode(LEASE)[:-1],
        b"\x81" * 2000,
    ],
)
def test_nothing_is_half_read(raw: bytes) -> None:
    with pytest.raises(PeerError):
        decode(RoleLease, raw)


def test_a_literal_is_checked() -> None:
    good = encode(Event(1.0, "info", "reason", "sentence"))
    assert decode(Event, good).severity == "info"
    with pytest.raises(PeerError, match="expected one of"):
        decode(Event, good.replace(b"\xa4info", b"\xa4evil"))


def test_an_error_reply_becomes_the_error_again() -> None:
    with pytest.raises(Conflict, match="a sentence"):
        Message("s", b"a sentence", {ERROR_HEADER: "conflict"}).raise_error()
    with pytest.raises(MeshError, match="a sentence"):
        Message("s", b"a sentence", {ERROR_HEADER: "unheard of"}).raise_error()
    Message("s", b"fine").raise_error()


def test_the_outbox_forgets_the_oldest() -> None:
    box = Outbox(max_messages=3, max_bytes=10)
    letters = [Letter("s", b"%d" % n, None) for n in range(5)]
    assert [box.add(letter) for letter in letters] == [0, 0, 0, 1, 1]
    assert box.take() == letters[2]
    box.put_back(letters[2])
    assert box.add(Letter("s", b"x" * 9, None)) == 2
    assert [box.take().payload for _ in range(len(box))] == [b"4", b"x" * 9]
    assert box.add(Letter("s", b"x" * 11, None)) == 1
    assert len(box) == 0


def republished(**changes: str) -> Message:
    headers = {
        "Nats-Subject": "$KV.mesh-shared.service.a.b",
        "Nats-Sequence": "5",
        "Nats-Last-Sequence": "3",
        "Nats-Time-Stamp": "2026-01-02T03:04:05.123456789Z",
        "Mesh-Signature": "sig",
    }
    return Message("mesh.v1.shared.service.a.b", b"value", {**headers, **changes})


def test_an_entry_is_read_from_the_broker_s_headers() -> None:
    entry = entry_of("mesh-shared", republished())
    assert (entry.key, entry.revision, entry.value, entry.signature) == ("service.a.b", 5, b"value", "sig")
    assert entry.at == pytest.approx(1767323045.123456)
    assert predecessor_of(republished()) == 3
    for changes in ({"Nats-Sequence": "x"}, {"Nats-Time-Stamp": ""}):
        with pytest.raises(PeerError):
            entry_of("mesh-shared", republished(**changes))
    with pytest.raises(PeerError):
        entry_of("mesh-shared", Message("s", b""))
    with pytest.raises(PeerError, match="not a republished write"):
        predecessor_of(Message("s", b""))


def test_keys_are_names_joined_by_dots() -> None:
    assert check_key("node-1.workload.default.reviews_v1") == "node-1.workload.default.reviews_v1"
    for bad in ("", ".", "a.", "a..b", "*", "a.>", "a b", "a\n", "x" * 1025):
        with pytest.raises(ConfigError):
            check_key(bad)
    assert is_under("a.b.c", "")
    assert is_under("a.b.c", "a.b")
    assert is_under("a.b", "a.b")
    assert not is_under("a.bc", "a.b")
