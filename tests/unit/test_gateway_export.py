"""The export of desired state: what comes back is what admission signed, all of it or nothing."""

from __future__ import annotations

import pytest

from ray_mesh.bus.messages import Desired, encode
from ray_mesh.bus.store import Entry
from ray_mesh.errors import PeerError
from ray_mesh.gateway.desired import PURPOSE
from ray_mesh.gateway.export import DesiredCopy, read_export, write_export
from ray_mesh.security.signing import SigningKey

SIGNING = SigningKey.generate()
AT = 1_700_000_000.0


def entry(key: str, revision: int, document: str = "{}", signing: SigningKey = SIGNING) -> Entry:
    value = encode(Desired(key, document, AT, "me", "set"))
    return Entry(key, revision, value, signing.sign(PURPOSE, value), AT)


def test_an_export_comes_back_in_the_order_of_its_revisions() -> None:
    entries = [entry("service.default.b", 9), entry("service.default.a", 3, document="")]
    export = read_export(write_export(entries, SIGNING, AT), SIGNING.verify_key)
    assert export.entries == tuple(reversed(entries))
    assert (export.head, export.at) == (9, AT)


def test_an_export_of_another_mesh_is_refused() -> None:
    raw = write_export([entry("service.default.a", 3)], SIGNING, AT)
    with pytest.raises(PeerError, match="signature over export"):
        read_export(raw, SigningKey.generate().verify_key)


@pytest.mark.parametrize("place", [20, -20])
def test_an_export_that_was_changed_is_refused(place: int) -> None:
    raw = bytearray(write_export([entry("service.default.a", 3)], SIGNING, AT))
    raw[place] ^= 1
    with pytest.raises(PeerError):
        read_export(bytes(raw), SIGNING.verify_key)


def test_an_entry_that_admission_did_not_sign_is_refused_even_in_a_signed_export() -> None:
    forged = entry("service.default.a", 3, signing=SigningKey.generate())
    with pytest.raises(PeerError, match="signature over desired"):
        read_export(write_export([forged], SIGNING, AT), SIGNING.verify_key)


def test_a_key_twice_is_refused() -> None:
    twice = [entry("service.default.a", 3), entry("service.default.a", 4)]
    with pytest.raises(PeerError, match="twice"):
        read_export(write_export(twice, SIGNING, AT), SIGNING.verify_key)


def test_a_copy_keeps_the_newest_of_each_key_and_nothing_unsigned() -> None:
    copy = DesiredCopy(SIGNING.verify_key)
    copy.put(entry("service.default.a", 3))
    copy.put(entry("service.default.a", 5, document='{"new": 1}'))
    copy.put(entry("service.default.a", 4))
    with pytest.raises(PeerError):
        copy.put(entry("service.default.b", 6, signing=SigningKey.generate()))
    assert copy.entries() == [entry("service.default.a", 5, document='{"new": 1}')]
