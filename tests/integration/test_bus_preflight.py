"""A NATS of somebody's own: what is taken, and each thing that is refused with its sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from bus_broker import write_certificate
from own_nats import OwnNats, own_nats

from ray_mesh.bus import subjects
from ray_mesh.bus.client import Bus
from ray_mesh.bus.credentials import Credential, Login
from ray_mesh.bus.external import ExternalNats, make_buckets
from ray_mesh.bus.preflight import check_reading, examine
from ray_mesh.bus.server import render_accounts
from ray_mesh.bus.store import Owner, Store, api, check_owner, inspect, remove_buckets
from ray_mesh.errors import ConfigError, MeshError, NotFound, PolicyDenied, Unauthenticated, Unavailable

OWNER = Owner("mine", b"k" * 32)


async def prepared(nats: OwnNats, owner: Owner = OWNER) -> Bus:
    """A controller's connection, with the buckets made."""
    bus = await Bus.connect(nats.settings().address, "controller", "c", nats.logins()[0])
    await make_buckets(bus, nats.settings(), owner)
    return bus


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[OwnNats]:
    with own_nats(tmp_path / "nats") as running:
        yield running


async def test_the_accounts_that_are_printed_are_what_is_needed(nats: OwnNats) -> None:
    assert await examine(nats.settings(), *nats.logins(), OWNER) == []
    bus = await prepared(nats)
    await check_reading(nats.settings(), nats.logins()[1])
    assert await examine(nats.settings(), *nats.logins(), OWNER) == []
    assert (await inspect(bus, subjects.DESIRED_BUCKET)).head == 0, "looking wrote something"
    await remove_buckets(bus, OWNER)
    await remove_buckets(bus, OWNER)
    with pytest.raises(NotFound):
        await inspect(bus, subjects.DESIRED_BUCKET)
    await bus.close()


async def test_one_account_for_all(tmp_path: Path) -> None:
    with own_nats(tmp_path / "nats", two=False) as nats:
        assert await examine(nats.settings(two=False), nats.logins()[0], None, OWNER) == []
        bus = await prepared(nats)
        await bus.close()


async def test_one_account_without_the_right_to_answer(tmp_path: Path) -> None:
    narrow = """accounts: {mesh: {jetstream: enabled, users: [
      {nkey: {control}, permissions: {publish: {deny: ["_INBOX.proxy.>"]}}}]}}"""
    with own_nats(tmp_path / "nats", narrow) as nats, pytest.raises(ConfigError) as caught:
        await examine(nats.settings(two=False), nats.logins()[0], None, OWNER)
    assert "may not publish to _INBOX.proxy.*.>. " in str(caught.value)


async def test_a_proxy_with_the_shared_credential_cannot_aim_answers_at_the_store(nats: OwnNats) -> None:
    bus = await prepared(nats)
    store = Store(bus, subjects.SHARED_BUCKET)
    await store.put("service.default.x", b"kept", "")
    proxy = await Bus.connect(nats.settings().address, "proxy", "p", nats.logins()[1])
    for target in (
        f"$JS.API.STREAM.PURGE.{subjects.stream(subjects.SHARED_BUCKET)}",
        "$KV.mesh-shared.service.x",
    ):
        await proxy.send(subjects.direct_get(subjects.SHARED_BUCKET, "service.default.x"), b"", reply=target)
    await proxy.flush()
    await proxy.request(subjects.direct_get(subjects.SHARED_BUCKET, "service.default.x"), b"")
    entry = await store.get("service.default.x")
    assert entry is not None
    assert entry.value == b"kept"
    assert await store.keys() == ["service.default.x"]
    with pytest.raises(PolicyDenied):
        await proxy.request("$JS.API.INFO", b"")
    await proxy.close()
    await bus.close()


async def test_another_mesh_is_not_mixed_with(nats: OwnNats) -> None:
    bus = await prepared(nats)
    other = Owner("other", b"o" * 32)
    with pytest.raises(ConfigError, match=r"mesh-desired at tls://127.* belongs to another mesh: mine, with"):
        await examine(nats.settings(), *nats.logins(), other)
    with pytest.raises(ConfigError, match="belongs to another mesh: mine"):
        await make_buckets(bus, nats.settings(), other)
    with pytest.raises(ConfigError, match="belongs to another mesh: mine"):
        await remove_buckets(bus, other)
    await make_buckets(bus, nats.settings(), OWNER)
    await bus.close()


async def test_a_lost_store_is_restored_for_its_owner(nats: OwnNats) -> None:
    bus = await prepared(nats)
    store = Store(bus, subjects.DESIRED_BUCKET)
    revision = await store.put("service.default.x", b"kept", "signature")
    entries = await store.list()
    await remove_buckets(bus, OWNER)
    assert await make_buckets(bus, nats.settings(), OWNER, entries)
    assert [(one.key, one.value) for one in await store.list()] == [("service.default.x", b"kept")]
    assert await store.head() > revision
    assert not await make_buckets(bus, nats.settings(), OWNER, entries)
    await check_owner(bus, subjects.DESIRED_BUCKET, OWNER)
    await bus.close()


async def test_a_bucket_that_nobody_marked_is_left_alone(nats: OwnNats) -> None:
    bus = await Bus.connect(nats.settings().address, "controller", "c", nats.logins()[0])
    stream = subjects.stream(subjects.PRIVATE_BUCKET)
    theirs = {"name": stream, "subjects": ["theirs.>"]}
    await api(bus, f"STREAM.CREATE.{stream}", json.dumps(theirs).encode())
    with pytest.raises(ConfigError, match=r"mesh-private at .* was made by something else"):
        await examine(nats.settings(), *nats.logins(), OWNER)
    await bus.close()


async def refused(
    nats: OwnNats, error: type[MeshError], sentence: str, settings: ExternalNats | None = None
) -> None:
    """Examining raises an error whose sentence says what, where and what to do."""
    with pytest.raises(error) as caught:
        await examine(settings or nats.settings(), *nats.logins(), OWNER)
    assert re.search(sentence, str(caught.value)), str(caught.value)
    assert "127.0.0.1:" in str(caught.value)
    assert nats.control.reveal() not in str(caught.value)


async def test_wrong_credentials(nats: OwnNats) -> None:
    known = nats.control
    nats.control = Credential.generate()
    await refused(nats, Unauthenticated, "refuses the credential .a nkey.: .*Ask its administrator")
    nats.control, nats.proxies = known, Credential.generate()
    await refused(nats, Unauthenticated, "refuses the credential .a nkey.: .*Ask its administrator")
    for text in ("user:password", "token"):
        with pytest.raises(Unauthenticated):
            await examine(nats.settings(two=False), Login(text), None, OWNER)


async def test_another_certificate(nats: OwnNats, tmp_path: Path) -> None:
    other = write_certificate(tmp_path).cert_file.read_text()
    await refused(nats, Unavailable, "is not trusted: .*--nats-ca", ExternalNats(nats.url, other))
    await refused(nats, Unavailable, "is not trusted: .*--nats-ca", ExternalNats(nats.url))


async def test_nobody_there(nats: OwnNats) -> None:
    nats.kill(0)
    await refused(nats, Unavailable, "no NATS server is reached: .*connection refused.*Check --nats")


async def test_no_jetstream(tmp_path: Path) -> None:
    with own_nats(
        tmp_path / "server", jetstream=False, accounts=WHOLE.replace("jetstream: enabled,", "")
    ) as nats:
        await refused(nats, Unavailable, "no JetStream.*Add `jetstream")
    with own_nats(tmp_path / "account", accounts=WHOLE.replace("jetstream: enabled,", "")) as nats:
        await refused(nats, Unavailable, "no JetStream for this account: .*Add `jetstream: enabled`")


WHOLE = """accounts: {
  control: {jetstream: enabled, users: [{nkey: {control}}]}
  edge: {users: [{nkey: {proxies}}]}
}"""


async def test_missing_exports_rights_and_limits(tmp_path: Path) -> None:
    with own_nats(tmp_path / "exports", accounts=WHOLE) as nats:
        await refused(
            nats, ConfigError, r"does not get .* stream mesh.v1.beacon.\* of the roles.*nats-accounts"
        )
    rights = 'publish: {deny: ["mesh.v1.query.*"]}, subscribe: {deny: ["mesh.v1.csr.*"]}'
    narrow = WHOLE.replace("{nkey: {control}}", f"{{nkey: {{control}}, permissions: {{{rights}}}}}")
    with own_nats(tmp_path / "rights", accounts=narrow) as nats:
        await refused(
            nats,
            ConfigError,
            r"may not publish to mesh.v1.query.\* and may not hear mesh.v1.csr.\*\. `ray-mesh",
        )
    few = WHOLE.replace("jetstream: enabled", "jetstream: {max_streams: 2}")
    with own_nats(tmp_path / "limits", accounts=few) as nats:
        await refused(nats, ConfigError, "may have 2 streams and has 0, the mesh makes 3: raise the limit")


async def test_a_proxies_credential_that_may_more_is_told_of(tmp_path: Path) -> None:
    control, proxies = Credential.generate(), Credential.generate()
    text = render_accounts(control.public, proxies.public)
    limits = next(line for line in text.splitlines() if proxies.public in line)
    wide = text.replace(limits, f"{{nkey: {proxies.public}}}")
    for key, name in ((control, "{control}"), (proxies, "{proxies}")):
        wide = wide.replace(key.public, name)
    with own_nats(tmp_path / "nats", wide) as nats:
        warnings = await examine(nats.settings(), *nats.logins(), OWNER)
    assert len(warnings) == 1
    assert "may publish to mesh.v1.beacon.*, mesh.v1.private.>, mesh.v1.role.policy.*" in warnings[0]


async def test_proxies_that_reach_jetstream(tmp_path: Path) -> None:
    same = "accounts: {one: {jetstream: enabled, users: [{nkey: {control}}, {nkey: {proxies}}]}}"
    with own_nats(tmp_path / "nats", accounts=same) as nats:
        await refused(
            nats, ConfigError, "proxies' credential reaches JetStream.*an account without JetStream"
        )


async def test_small_messages(tmp_path: Path) -> None:
    with own_nats(tmp_path / "nats", extra=["max_payload: 64KB"]) as nats:
        await refused(nats, ConfigError, "takes messages of 65536 bytes: set max_payload to 1MB")


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("nats://nats.example:4222", "without TLS whoever is on the way .* write tls://nats.example:4222"),
        ("tls://a:4222,nats://10.0.0.1:4222", "nats:// is for loopback only"),
        ("tls://me:secret@nats.example", "a credential does not belong in the address"),
        ("tls://token@nats.example", "a credential does not belong in the address"),
        ("http://nats.example", "write tls://host:port"),
        ("tls://", "write tls://host:port"),
        ("", "write tls://host:port"),
    ],
)
def test_addresses_that_are_refused(url: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        ExternalNats(url)
    assert "secret" not in str(caught.value)


async def test_plain_text_on_loopback_only(tmp_path: Path) -> None:
    with own_nats(tmp_path / "nats", tls=False) as nats:
        assert await examine(nats.settings(), *nats.logins(), OWNER) == []
        nats.ca_pem = "x"
        with pytest.raises(Unavailable, match="does not offer TLS"):
            await examine(ExternalNats(nats.url), *nats.logins(), OWNER)
