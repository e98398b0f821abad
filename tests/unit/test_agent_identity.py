"""Which identities a proxy holds, and for whom."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

from ray_mesh.agent.identity import Identities
from ray_mesh.bus import messages
from ray_mesh.bus.client import Bus
from ray_mesh.security.ca import Authority
from ray_mesh.security.identity import for_workload
from ray_mesh.security.svid import Svid, new_key

KEY = "workload.default.app"


class Broker:
    """A bus behind which a CA answers for whatever service account the workload has now."""

    def __init__(self) -> None:
        root = Authority.create_root("mesh.local", time.time())
        self.bundle = root.bundle()
        self.account = "old"
        self._authority = root.create_intermediate(time.time())

    async def request(self, subject: str, data: bytes, *, timeout_s: float) -> Any:
        request = messages.decode(messages.CsrRequest, data)
        identity = for_workload("mesh.local", "default", self.account)
        chain = self._authority.issue(request.csr_der, identity, 3600, time.time())

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


async def _until(installed: list[str], expected: list[str]) -> None:
    async with asyncio.timeout(2.0):
        while installed != expected:
            await asyncio.sleep(0.01)
