"""Which identities a proxy holds, and for whom."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import pytest

from ray_mesh.agent.identity import Identities, request_svid
from ray_mesh.bus import messages
from ray_mesh.bus.client import Bus
from ray_mesh.security.ca import Authority
from ray_mesh.security.identity import for_workload
from ray_mesh.security.svid import Svid, new_key

KEY = "workload.default.app"


class Broker:
    """A bus behind which a CA answers for whatever service account the workload has now."""

    def __init__(self) -> None:
        self.offset_s = 0.0
        root = Authority.create_root("mesh.local", self.clock())
        self.bundle = root.bundle()
        self.account = "old"
        self._authority = root.create_intermediate(self.clock())

    def clock(self) -> float:
        """The clock of the one machine that all of this runs on."""
        return time.time() + self.offset_s

    async def request(self, subject: str, data: bytes, *, timeout_s: float) -> Any:
        request = messages.decode(messages.CsrRequest, data)
        identity = for_workload("mesh.local", "default", self.account)
        chain = self._authority.issue(request.csr_der, identity, 3600, self.clock())

        class Answer:
            data = messages.encode(messages.CsrReply(chain))

        return Answer


async def test_a_workload_that_changes_its_service_account_gets_the_new_identity_at_once() -> None:
    broker = Broker()
    installed: list[str] = []

    async def install(key: str, svid: Svid) -> None:
        installed.append(str(svid.id))

    identities = Identities(
        cast(Bus, broker), "p1", new_key(), broker.bundle, install, lambda reason, message: None
    )
    old, new = (str(for_workload("mesh.local", "default", account)) for account in ("old", "new"))
    identities.hold({KEY: old})
    await _until(installed, [old])
    identities.hold({KEY: old})
    broker.account = "new"
    identities.hold({KEY: new})
    await _until(installed, [old, new])
    await identities.stop()


@pytest.mark.parametrize("jump_s", [7200.0, -7200.0])
async def test_a_clock_that_jumps_has_certificates_renewed_at_once_and_told_of(
    jump_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray_mesh.agent.identity.CLOCK_CHECK_S", 0.01)
    broker = Broker()
    installed: list[Svid] = []
    told: list[tuple[str, str]] = []

    async def install(key: str, svid: Svid) -> None:
        installed.append(svid)

    def report(reason: str, message: str) -> None:
        told.append((reason, message))

    own_key = new_key()
    identities = Identities(cast(Bus, broker), "p1", own_key, broker.bundle, install, report, broker.clock)
    identities.hold({KEY: str(for_workload("mesh.local", "default", "old"))})
    async with asyncio.timeout(5.0):
        while not installed:
            await asyncio.sleep(0.01)
        broker.offset_s = jump_s
        while len(installed) < 2:
            await asyncio.sleep(0.01)
    await identities.stop()
    assert installed[1].not_before_at <= broker.clock() < installed[1].expires_at
    assert not installed[0].not_before_at <= broker.clock() < installed[0].expires_at
    ((reason, message),) = told
    assert reason == "clock_jumped"
    assert "renewed at once" in message


async def _until(installed: list[str], expected: list[str]) -> None:
    async with asyncio.timeout(2.0):
        while installed != expected:
            await asyncio.sleep(0.01)


async def test_a_ca_that_keeps_a_question_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_mesh.agent.identity.ASK_AGAIN_S", 0.01)

    class Stuck(Broker):
        asked = 0

        async def request(self, subject: str, data: bytes, *, timeout_s: float) -> Any:
            self.asked += 1
            if self.asked == 1:
                await asyncio.Event().wait()
            return await super().request(subject, data, timeout_s=timeout_s)

    broker, key = Stuck(), new_key()
    identity = str(for_workload("mesh.local", "default", "old"))
    async with asyncio.timeout(2.0):
        svid = await request_svid(cast(Bus, broker), "p1", KEY, identity, broker.bundle, key, new_key())
    assert str(svid.id) == identity
    assert broker.asked == 2
