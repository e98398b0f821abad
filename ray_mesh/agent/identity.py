"""The identities of one proxy: keys made here, certificates asked for over NATS, renewed in time.

A private key lives in this process only: it is never written, sent or logged. Each identity is
renewed at half its life with jitter; a refusal or an absent CA is tried again with growing pauses,
and reported, while the current certificate goes on serving.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from ray_mesh.bus import messages, subjects
from ray_mesh.bus.client import Bus, Message
from ray_mesh.errors import MeshError, PeerError, PolicyDenied
from ray_mesh.security import possession
from ray_mesh.security.bundle import Bundle
from ray_mesh.security.svid import Svid, csr, new_key, renewal_at, verify_svid

log = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 2.0
ASK_AGAIN_S = 0.5
ASK_TIMES = 3
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0
CLOCK_CHECK_S = 1.0
"""How often the wall clock is looked at: it can be set while a certificate waits for its renewal."""

Install = Callable[[str, Svid], Awaitable[None]]
Report = Callable[[str, str], None]


async def request_svid(
    bus: Bus,
    proxy: str,
    workload: str,
    expected: str,
    bundle: Bundle,
    key: EllipticCurvePrivateKey,
    proxy_key: EllipticCurvePrivateKey,
    clock: Callable[[], float] = time.time,
) -> Svid:
    """Ask the CA for one SVID and check what came back.

    ``workload`` is the workload's key, or empty for the proxy's own identity. ``proxy_key`` is the proxy's
    own, which it signs requests for workloads with; ``key`` is what the certificate is for.

    Raises:
        PolicyDenied: the CA refused; the sentence says why.
        PeerError: the answer is not the certificate that was asked for.
        Unavailable: no CA answered in time.
    """
    request = messages.CsrRequest(workload, csr(key))
    if workload:
        proof = possession.prove(proxy_key, proxy, workload, request.csr_der)
        request = replace(request, proxy_key=possession.public_der(proxy_key), proof=proof)
    answer = await _ask(bus, subjects.csr(proxy), messages.encode(request))
    reply = messages.decode(messages.CsrReply, answer.data)
    if reply.error:
        raise PolicyDenied(reply.error)
    identity = verify_svid(reply.chain, {bundle.trust_domain: bundle}, clock())
    if str(identity) != expected:
        raise PeerError(f"asked the CA for {expected}, got a certificate for {identity}")
    return Svid.from_der(reply.chain, key)


async def _ask(bus: Bus, subject: str, request: bytes) -> Message:
    """The first answer to up to :data:`ASK_TIMES` questions: a CA that is stuck keeps what it was asked."""
    asked: set[asyncio.Task[Message]] = set()
    try:
        for number in range(ASK_TIMES):
            asked.add(asyncio.create_task(bus.request(subject, request, timeout_s=REQUEST_TIMEOUT_S)))
            is_last = number == ASK_TIMES - 1
            done, _ = await asyncio.wait(
                asked, timeout=None if is_last else ASK_AGAIN_S, return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                break
        return done.pop().result()
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


class Identities:
    """Keeps the SVIDs of one proxy fresh. ``install`` puts one into service.

    A workload's key is new at each renewal; the proxy's own key is the one that the controller
    registered, and lives as long as the process.
    """

    def __init__(
        self,
        bus: Bus,
        proxy: str,
        own_key: EllipticCurvePrivateKey,
        bundle: Bundle,
        install: Install,
        report: Report,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._bus = bus
        self._proxy = proxy
        self._own_key = own_key
        self._bundle = bundle
        self._install = install
        self._report = report
        self._clock = clock
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._held: dict[str, str] = {}
        self.expires_at: dict[str, float] = {}

    def hold(self, expected: dict[str, str]) -> None:
        """Hold exactly these: workload key (empty for the proxy itself) to SPIFFE ID."""
        for key, _ in self._held.items() - expected.items():
            self._tasks.pop(key).cancel()
            self.expires_at.pop(key, None)
        for key, identity in expected.items():
            if key not in self._tasks:
                self._tasks[key] = asyncio.create_task(self._keep(key, identity), name=f"svid {key}")
        self._held = dict(expected)

    async def stop(self) -> None:
        """Stop renewing."""
        tasks = list(self._tasks.values())
        self.hold({})
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, key: str, identity: str) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                private_key = new_key() if key else self._own_key
                svid = await request_svid(
                    self._bus,
                    self._proxy,
                    key,
                    identity,
                    self._bundle,
                    private_key,
                    self._own_key,
                    self._clock,
                )
                await self._install(key, svid)
            except MeshError as error:
                self._report(error.reason, f"no certificate for {identity}: {error}")
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
                continue
            except Exception:
                log.exception("identity %s", identity)
                await asyncio.sleep(LONGEST_PAUSE_S)
                continue
            pause_s = FIRST_PAUSE_S
            self.expires_at[key] = svid.expires_at
            await self._wait_due(identity, svid)

    async def _wait_due(self, identity: str, svid: Svid) -> None:
        renew_at = renewal_at(svid, random.uniform(-1.0, 1.0))
        now = self._clock()
        while svid.not_before_at <= now < renew_at:
            await asyncio.sleep(min(CLOCK_CHECK_S, renew_at - now))
            now = self._clock()
        if not svid.not_before_at <= now < svid.expires_at:
            self._report(
                "clock_jumped",
                f"by the clock of this machine the certificate of {identity} is not valid "
                f"({_until_valid(svid, now)}): it is renewed at once",
            )


def _until_valid(svid: Svid, now: float) -> str:
    if now < svid.not_before_at:
        return f"it begins in {svid.not_before_at - now:.0f} s"
    return f"it ended {now - svid.expires_at:.0f} s ago"
