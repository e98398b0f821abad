"""Looking at somebody's own NATS before a mesh is started on it: refuse what will not do, change nothing."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Coroutine, Mapping, Sequence

from ray_mesh.bus import subjects
from ray_mesh.bus.client import Bus, Message, Subscription
from ray_mesh.bus.connection import is_refusal, open_connection, split_servers
from ray_mesh.bus.credentials import BrokerAddress, Login
from ray_mesh.bus.external import HOW, ExternalNats
from ray_mesh.bus.messages import Event
from ray_mesh.bus.permissions import EXPORTS, Permissions, covers, shared_permissions, whole_permissions
from ray_mesh.bus.server import MIN_VERSION
from ray_mesh.bus.store import EXPECTED_HEADER, Owner, api, check_owner, fetch, inspect
from ray_mesh.errors import ConfigError, MeshError, NotFound, PolicyDenied, Unauthenticated, Unavailable

MIN_PAYLOAD = 1 << 20
CROSSING_TIMEOUT_S = 2.0


async def examine(nats: ExternalNats, control: Login, proxies: Login | None, owner: Owner) -> list[str]:
    """Look at a NATS before a mesh is started on it; changes nothing there. Returns warnings.

    Raises:
        Unavailable: it cannot be reached, or has no JetStream.
        Unauthenticated: it refuses a credential.
        ConfigError: its version, limits, or what the credentials reach will not do; or another mesh is there.
    """
    warnings: list[str] = []
    async with _Guest(nats, control, "gateway") as guest:
        _check_server(nats.url, guest.bus.facts)
        await _check_jetstream(guest.bus)
        for bucket in subjects.BUCKETS:
            await check_owner(guest.bus, bucket, owner)
        wanted = shared_permissions("control") if proxies else whole_permissions()
        await guest.check_rights("the credential", wanted)
        async with _Guest(nats, proxies or control, "proxy") as other:
            if proxies is not None:
                await _check_apart(other)
                await other.check_rights("the proxies' credential", shared_permissions("edge"))
                warnings += await _check_not_wider(other)
            await _check_crossings(guest.bus, other.bus)
    return warnings


async def check_reading(nats: ExternalNats, proxies: Login) -> None:
    """Whether proxies reach compiled configuration in the other account, once there are buckets.

    Raises:
        ConfigError: they do not.
    """
    async with _Guest(nats, proxies, "proxy") as guest:
        for bucket, key in (
            (subjects.SHARED_BUCKET, guest.name),
            (subjects.PRIVATE_BUCKET, f"{guest.name}.x"),
        ):
            try:
                await fetch(guest.bus, bucket, key)
            except (Unavailable, PolicyDenied) as error:
                raise ConfigError(
                    f"{nats.url}: proxies cannot read {bucket}, a service of the roles' account: {error}."
                    f" {HOW}"
                ) from error


class _Guest:
    """A connection that only looks, under a name that no role or proxy has."""

    def __init__(self, nats: ExternalNats, login: Login, role: str) -> None:
        self.name = f"preflight-{secrets.token_hex(4)}"
        self._nats = nats
        self._login = login
        self._role = role
        self._refused: list[str] = []

    async def __aenter__(self) -> _Guest:
        await _knock(self._nats, self._login)
        self.bus = await Bus.connect(self._nats.address, self._role, self.name, self._login, self._note)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.bus.close(flush_s=0)

    def _note(self, event: Event) -> None:
        if event.reason in ("publish_refused", "subscribe_refused"):
            self._refused.append(event.message.rsplit(" ", 1)[-1])

    async def check_rights(self, whose: str, wanted: Permissions) -> None:
        """Try everything; what does something is tried so that it does not.

        Raises:
            ConfigError: something is refused; the message lists it.
        """
        heard = await self.refused_of(subscribe=wanted.subscribe)
        told = await self.refused_of(publish=[one for one in wanted.publish if not _acts(one)])
        if heard or told:
            lists = [("publish to", told), ("hear", heard)]
            what = " and may not ".join(f"{verb} {', '.join(names)}" for verb, names in lists if names)
            raise ConfigError(f"{self._nats.url}: {whose} may not {what}. {HOW}")

    async def refused_of(self, publish: Sequence[str] = (), subscribe: Sequence[str] = ()) -> list[str]:
        """Those of the subjects that the broker refuses."""
        self._refused.clear()
        heard: list[Subscription] = []
        samples = {subject: subject for subject in subscribe}
        for subject in subscribe:
            heard.append(await self.bus.subscribe(subject, _ignore))
        for subject in publish:
            sample = self._sample(subject)
            samples[sample] = subject
            # Whatever is stored under such a name, it is not at this revision: nothing is written.
            self.bus.publish(sample, b"", {EXPECTED_HEADER: str(2**62)})
        if not await self.bus.flush(5.0):
            raise Unavailable(f"{self._nats.url} does not answer any more")
        for subscription in heard:
            subscription.stop()
        lowered = {sample.lower(): subject for sample, subject in samples.items()}
        return [lowered[one.lower()] for one in self._refused if one.lower() in lowered]

    def _sample(self, subject: str) -> str:
        return ".".join(self.name if token in ("*", ">") else token for token in subject.split("."))


async def _knock(nats: ExternalNats, login: Login) -> None:
    """One try at each server, for an error that says what is wrong with which."""
    troubles: list[str] = []
    for server in split_servers(nats.url):
        address = BrokerAddress(server, nats.ca_pem, embedded=False)
        try:
            await (await open_connection(address, login, "ray-mesh preflight", lambda _: None)).end()
            return
        except Unavailable as error:
            if is_refusal(error):
                raise Unauthenticated(
                    f"{server} refuses the credential (a {login.kind}): {error}. Ask its administrator"
                    " whether the user exists, is not expired, and is of the account meant for this mesh"
                ) from error
            troubles.append(str(error))
    raise Unavailable(
        f"no NATS server is reached: {'; '.join(troubles)}. Check --nats, the servers and what is between"
    )


def _check_server(url: str, facts: Mapping[str, object]) -> None:
    version = str(facts.get("version", ""))
    numbers = tuple(int(one) for one in re.findall(r"\d+", version)[:2])
    if numbers < MIN_VERSION:
        raise ConfigError(
            f"{url} runs nats-server {version}: {'.'.join(map(str, MIN_VERSION))} or newer is needed, for"
            " atomic batches"
        )
    payload = facts.get("max_payload")
    if not isinstance(payload, int) or payload < MIN_PAYLOAD:
        raise ConfigError(f"{url} takes messages of {payload} bytes: set max_payload to 1MB or more")
    if not facts.get("headers"):
        raise ConfigError(f"{url} has headers turned off: signatures travel in them, so remove no_headers")


async def _check_jetstream(bus: Bus) -> None:
    url = bus.address.url
    try:
        answer = await api(bus, "INFO")
    except PolicyDenied as error:
        raise ConfigError(f"{url}: {error}. {HOW}") from error
    except Unavailable as error:
        raise Unavailable(
            f"{url} has no JetStream: {error}. Add `jetstream {{}}` to the server's configuration"
        ) from error
    if "error" in answer:
        raise Unavailable(
            f"{url} has no JetStream for this account: {answer['error'].get('description')}. Add"
            " `jetstream: enabled` to the account, or use a credential of one that has it"
        )
    most, has = answer.get("limits", {}).get("max_streams", -1), answer.get("streams", 0)
    if most >= 0 and has + (needed := await _missing_buckets(bus)) > most:
        raise ConfigError(
            f"{url}: the account may have {most} streams and has {has}, the mesh makes {needed}: raise the"
            " limit"
        )


async def _missing_buckets(bus: Bus) -> int:
    missing = 0
    for bucket in subjects.BUCKETS:
        try:
            await inspect(bus, bucket)
        except NotFound:
            missing += 1
    return missing


async def _check_apart(guest: _Guest) -> None:
    try:
        answer = await api(guest.bus, "INFO")
    except (PolicyDenied, Unavailable):
        return
    if "error" not in answer:
        raise ConfigError(
            f"{guest.bus.address.url}: the proxies' credential reaches JetStream. Whoever takes over a proxy"
            " could then have the server itself write over or empty the mesh's buckets: it must be of an"
            f" account without JetStream. {HOW}"
        )


async def _check_crossings(control: Bus, edge: Bus) -> None:
    """Whether what passes between roles and proxies does: exports and imports, and rights to answer."""
    buses = {"control": (control, edge), "edge": (edge, control)}
    crossings: dict[str, Coroutine[None, None, bool]] = {}
    for account, (ours, theirs) in buses.items():
        for export in EXPORTS[account]:
            name = f"{export.kind} {export.subject} of the {_SIDES[account]}"
            if export.kind == "stream" and _is_said(account, export.subject):
                crossings[name] = _is_heard(ours, theirs, export.subject)
            elif export.kind == "service" and not export.subject.startswith("$JS."):
                crossings[name] = _is_answered(ours, theirs, export.subject)
            # What is read from the buckets waits until they exist: see check_reading.
    results = await asyncio.gather(*crossings.values())
    missing = [name for name, crosses in zip(crossings, results, strict=True) if not crosses]
    if missing:
        raise ConfigError(
            f"{control.address.url}: the other side does not get {', '.join(missing)}: exports, imports or"
            f" the rights to answer are missing. {HOW}"
        )


_SIDES = {"control": "roles", "edge": "proxies"}


def _is_said(account: str, subject: str) -> bool:
    publish = shared_permissions("control" if account == "control" else "edge").publish
    return any(covers(one, subject) for one in publish)


async def _is_heard(speaker: Bus, listener: Bus, subject: str) -> bool:
    name = subject.replace("*", speaker.instance)
    heard = asyncio.Event()
    subscription = await listener.subscribe(name, lambda _: heard.set())
    await listener.flush()
    speaker.publish(name, b"")
    try:
        async with asyncio.timeout(CROSSING_TIMEOUT_S):
            await heard.wait()
    except TimeoutError:
        return False
    finally:
        subscription.stop()
    return True


async def _is_answered(server: Bus, asker: Bus, subject: str) -> bool:
    name = subject.replace("*", server.instance)

    async def answer(_: Message) -> bytes:
        return b""

    subscription = await server.serve(name, answer)
    await server.flush()
    try:
        await asker.request(name, b"", CROSSING_TIMEOUT_S)
    except MeshError:
        return False
    finally:
        subscription.stop()
    return True


async def _check_not_wider(guest: _Guest) -> list[str]:
    """What only roles should say."""
    said_by_roles = (
        subjects.every("beacon"),
        subjects.every("role", "policy"),
        subjects.republished(subjects.SHARED_BUCKET, ">"),
        subjects.republished(subjects.PRIVATE_BUCKET, ">"),
    )
    wider = set(said_by_roles) - set(await guest.refused_of(publish=said_by_roles))
    if not wider:
        return []
    return [
        f"the proxies' credential may publish to {', '.join(sorted(wider))}, which only roles should: limit"
        f" it to the allow-list. {HOW}"
    ]


def _acts(subject: str) -> bool:
    """Whether publishing there does something by itself; what the mesh does at its start tries it."""
    return subject.startswith("$JS.API.STREAM.") and ".INFO." not in subject


def _ignore(_: Message) -> None:
    return None
