"""The bus: one supervised connection to the broker, for as long as a role lives.

A lost connection is replaced by a new one with the same subscriptions, for whatever reason it was
lost, with jitter between tries. ``publish`` never waits: it goes through a bounded outbox, oldest
first out, oldest dropped (and counted) when the broker is away for long. Requests wait for the
broker within their timeout. Each reply subject carries a random token of its own, so a responder
that has seen one cannot guess another.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ray_mesh.bus import subjects
from ray_mesh.bus.connection import (
    CLOSE_TIMEOUT_S,
    BrokerError,
    Connection,
    MaxPayloadError,
    RawSubscription,
    is_overload,
    is_refusal,
    open_connection,
    refused_subject,
)
from ray_mesh.bus.credentials import BrokerAddress, Credential, Login
from ray_mesh.bus.envelope import ERROR_HEADER, NOBODY, Message
from ray_mesh.bus.messages import Event
from ray_mesh.bus.outbox import Letter, Outbox
from ray_mesh.bus.questions import Questions
from ray_mesh.errors import ConfigError, MeshError, PeerError, PolicyDenied, Unavailable

log = logging.getLogger(__name__)

RECONNECT_S = (0.05, 0.5)
REFUSED_S = (0.5, 2.0)
OVERLOADED_S = (0.5, 10.0)
"""Between tries at a broker that takes connections and has no time for them: thousands of proxies that
connect again at once must not keep it from serving any."""
RESUBSCRIBE_S = 1.0
MAX_CONCURRENT_ANSWERS = 256
REPEAT_S = 30.0
NOBODY_S = 0.25
"""How long "nobody is there" is not believed."""

__all__ = ["Bus", "Counters", "Message", "Subscription", "end_tasks"]


@dataclass(slots=True)
class Counters:
    """What went wrong on a bus so far."""

    dropped: int = 0
    reconnects: int = 0
    refused: int = 0
    callback_errors: int = 0
    messages_refused: int = 0


class Subscription:
    """Interest in a subject that outlives connections, until :meth:`stop`."""

    __slots__ = ("_bus", "callback", "queue", "raw", "subject")

    def __init__(self, bus: Bus, subject: str, queue: str, callback: Callable[[Message], None]) -> None:
        self._bus = bus
        self.subject = subject
        self.queue = queue
        self.callback = callback
        self.raw: tuple[Connection, RawSubscription] | None = None

    def take(self, message: Message) -> None:
        """A message has come."""
        self._bus.hand_over(self.callback, message)

    def stop(self) -> None:
        """Receive nothing more."""
        self._bus._forget(self)


class Bus:
    """Publish, subscribe, request and serve, over connections that come and go.

    ``counters`` tells what was dropped or refused. Everything runs on the loop of :meth:`connect`.
    """

    def __init__(
        self,
        address: BrokerAddress,
        role: str,
        instance: str,
        credential: Credential | Login,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        self.address = address
        self.role = role
        self.instance = instance
        self.counters = Counters()
        self._credential = credential
        self._on_event = on_event
        self._inbox = subjects.inbox(role, instance)
        self._connection: Connection | None = None
        self._facts: Mapping[str, Any] = {}
        self._online = asyncio.Event()
        self._was_online = False
        self._trouble = "not connected yet"
        self._subscriptions: list[Subscription] = []
        self._refused: set[Subscription] = set()
        self._questions = Questions()
        self._outbox = Outbox()
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self._on_reconnect: list[Callable[[], None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._reported_at: dict[str, float] = {}
        self._answering = 0
        self._is_closed = False

    @classmethod
    async def connect(
        cls,
        address: BrokerAddress,
        role: str,
        instance: str,
        credential: Credential | Login,
        on_event: Callable[[Event], None] | None = None,
        *,
        timeout_s: float = 10.0,
    ) -> Bus:
        """Start a bus and wait for its first connection.

        With ``timeout_s`` 0 it returns at once and keeps trying, as it also does after a loss.
        ``on_event`` hears what a person should know; it must not block.

        Raises:
            Unavailable: no connection within ``timeout_s``; the message says why.
            ConfigError: the address or its CA cannot be used.
        """
        bus = cls(address, role, instance, credential, on_event)
        supervisor = bus._start(bus._supervise())
        bus._start(bus._pump())
        bus._start(bus._retry_refused())
        if timeout_s > 0:
            try:
                await bus._wait_online(timeout_s, supervisor)
            except BaseException:
                await bus.close(flush_s=0)
                raise
        return bus

    @property
    def connected(self) -> bool:
        """Whether there is a connection now, as far as is known."""
        return self._connection is not None and not self._connection.lost.is_set()

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the server of the last connection said of itself: version, cluster, limits."""
        return self._facts

    @property
    def trouble(self) -> str:
        """Why there is no connection; empty while there is one."""
        return "" if self.connected else self._trouble

    @property
    def dropped(self) -> int:
        """Messages that were published but never sent."""
        return self.counters.dropped

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after each reconnection, subscriptions restored: messages were missed."""
        self._on_reconnect.append(callback)

    def publish(self, subject: str, payload: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send, at most once, without waiting. When the outbox is full its oldest message is dropped."""
        if self._is_closed:
            self.counters.dropped += 1
            return
        self._note_dropped(self._outbox.add(Letter(subject, payload, headers)))
        self._emptied.clear()
        self._filled.set()

    async def subscribe(
        self, subject: str, callback: Callable[[Message], None], queue: str = ""
    ) -> Subscription:
        """Hear ``subject`` from now on, across reconnections.

        ``callback`` runs on the loop, in order, and must not block; what it raises is counted and
        reported. A subscription that the broker refuses is asked for again each second, because
        permissions may be on their way.

        Raises:
            ConfigError: ``subject`` or ``queue`` cannot be one.
        """
        if not _SUBJECT.fullmatch(subject) or not _QUEUE.fullmatch(queue):
            raise ConfigError(f"{subject!r} with queue {queue!r} cannot be subscribed")
        subscription = Subscription(self, subject, queue, callback)
        self._subscriptions.append(subscription)
        connection = self._connection
        if connection is not None:
            try:
                await self._attach(connection, subscription)
            except BrokerError as error:
                log.debug("%s is subscribed with the next connection: %s", subject, error)
        return subscription

    async def request(
        self,
        subject: str,
        payload: bytes,
        timeout_s: float = 2.0,
        headers: Mapping[str, str] | None = None,
    ) -> Message:
        """Ask, and wait for one answer; while the broker is away, wait for it too.

        Raises:
            Unavailable: nobody answered within ``timeout_s``, or the connection broke meanwhile.
            PolicyDenied: the broker does not let this role ask that.
            MeshError: what the handler of :meth:`serve` raised.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout_s
        while True:
            left_s = max(0.0, deadline - clock())
            answer = (await self.request_many(subject, payload, lambda _: True, left_s, headers))[-1]
            if answer.status != NOBODY:
                break
            # While the broker reloads its users, services of the other account are gone for a moment.
            if clock() > deadline - timeout_s + min(NOBODY_S, timeout_s / 2):
                raise Unavailable(f"nobody answers on {subject}")
            await asyncio.sleep(NOBODY_S / 10)
        answer.raise_error()
        return answer

    async def request_many(
        self,
        subject: str,
        payload: bytes,
        is_last: Callable[[Message], bool],
        timeout_s: float = 5.0,
        headers: Mapping[str, str] | None = None,
    ) -> list[Message]:
        """Ask, and collect answers up to the one that ``is_last`` accepts. Raises as :meth:`request`."""
        question = self._questions.pose(subject, is_last)
        try:
            async with asyncio.timeout(timeout_s):
                await self.send(subject, payload, headers, reply=f"{self._inbox}.{question.token}")
                return await question.done
        except TimeoutError:
            why = "no answer" if self.connected else f"the broker is away ({self._trouble})"
            raise Unavailable(f"{subject}: {why} within {timeout_s:.3g} s") from None
        finally:
            self._questions.drop(question)

    async def send(
        self, subject: str, payload: bytes, headers: Mapping[str, str] | None = None, reply: str = ""
    ) -> None:
        """Send on the connection itself, past the outbox, waiting for a connection if need be.

        Raises:
            Unavailable: the connection broke.
            ConfigError: the message is too large or the subject cannot be one.
        """
        await self._online.wait()
        if self._is_closed or self._connection is None:
            raise Unavailable("the bus is closed")
        await self._transmit(self._connection, subject, payload, headers, reply)

    async def serve(
        self, subject: str, handler: Callable[[Message], Awaitable[bytes]], queue: str = ""
    ) -> Subscription:
        """Answer requests on ``subject`` with what ``handler`` returns.

        A :class:`~ray_mesh.errors.MeshError` that it raises reaches the asker as such; anything else
        is logged and answered as an internal error. Up to 256 requests are answered at a time, more
        are refused as unavailable.
        """

        def receive(message: Message) -> None:
            if not message.reply:
                return
            if self._answering >= MAX_CONCURRENT_ANSWERS:
                self._refuse(message, Unavailable(f"{self.role} {self.instance} is overloaded"))
                return
            self._start(self._answer(handler, message))

        return await self.subscribe(subject, receive, queue)

    async def flush(self, timeout_s: float = 2.0) -> bool:
        """Wait until all that was published has reached the broker; False if it has not in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._emptied.wait()
                await self._online.wait()
                if self._connection is None:
                    return False
                # nats-py's read loop dies of a PONG whose waiter was cancelled, hence the shield.
                await asyncio.shield(self._connection.flush(60))
        except (TimeoutError, BrokerError, OSError):
            return False
        return True

    async def close(self, flush_s: float = 1.0) -> None:
        """Send what is in the outbox, for up to ``flush_s`` seconds, then disconnect."""
        if self._is_closed:
            return
        if self.connected and flush_s > 0:
            await self.flush(flush_s)
        self._is_closed = True
        self.counters.dropped += len(self._outbox)
        await end_tasks(self._tasks)
        connection, self._connection = self._connection, None
        self._fail_questions("the bus is closed")
        self._online.set()
        if connection is not None:
            await connection.end()

    # The supervisor.

    async def _supervise(self) -> None:
        failures = 0
        while True:
            try:
                connection = await open_connection(
                    self.address, self._credential, f"{self.role}/{self.instance}", self._note_error
                )
            except ConfigError:
                raise
            except Exception as error:
                if not isinstance(error, Unavailable):
                    log.exception("connecting %s failed", self._self)
                failures += 1
                self._note_trouble(str(error) or repr(error))
                await asyncio.sleep(_pause_s(failures, _pace(error)))
                continue
            try:
                if await self._restore(connection):
                    failures = 0
                    await connection.lost.wait()
                    self._note_loss(connection)
            finally:
                if self._connection is not connection:
                    await connection.end()
            await asyncio.sleep(_pause_s(1, RECONNECT_S))

    async def _restore(self, connection: Connection) -> bool:
        """Subscribe everything again, then let traffic flow."""
        try:
            await connection.hear(f"{self._inbox}.>", "", self._receive_answer)
            while missing := [s for s in self._subscriptions if not _is_on(s, connection)]:
                for subscription in missing:
                    await self._attach(connection, subscription)
        except BrokerError as error:
            self._note_trouble(str(error))
            return False
        self._connection = connection
        self._facts = connection.facts
        self._online.set()
        self._filled.set()
        is_first, self._was_online = not self._was_online, True
        if not is_first:
            self.counters.reconnects += 1
            self.report("info", "broker_reconnected", f"connected to {self.address.url} again")
            for callback in self._on_reconnect:
                self._guard(callback)
        self._trouble = ""
        return True

    def _note_loss(self, connection: Connection) -> None:
        self._connection = None
        self._online.clear()
        self._refused.clear()
        self._note_trouble(_why_lost(connection))
        self._fail_questions(f"the connection to the broker broke: {self._trouble}")

    def _note_trouble(self, trouble: str) -> None:
        if trouble == self._trouble:
            return
        self._trouble = trouble
        self.report("warning", "broker_unavailable", f"no connection to the broker: {trouble}")

    async def _wait_online(self, timeout_s: float, supervisor: asyncio.Task[None]) -> None:
        online = asyncio.ensure_future(self._online.wait())
        done, _ = await asyncio.wait(
            (online, supervisor), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        online.cancel()
        if supervisor in done:
            supervisor.result()
        if online not in done:
            raise Unavailable(f"no connection to the broker within {timeout_s:.3g} s: {self._trouble}")

    # Subscriptions.

    async def _attach(self, connection: Connection, subscription: Subscription) -> None:
        """Subscribe on one connection.

        Raises:
            BrokerError: the connection was lost; the supervisor makes the next one.
        """
        if _is_on(subscription, connection) or subscription not in self._subscriptions:
            return
        raw = await connection.hear(subscription.subject, subscription.queue, subscription.take)
        subscription.raw = (connection, raw)

    def _forget(self, subscription: Subscription) -> None:
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
            self._refused.discard(subscription)
            self._start(self._detach(subscription))

    async def _detach(self, subscription: Subscription) -> None:
        attached, subscription.raw = subscription.raw, None
        if attached is None or attached[0].lost.is_set():
            return
        try:
            await attached[1].unsubscribe()
        except BrokerError as error:
            log.debug("%s is left with the connection: %s", subscription.subject, error)

    async def _retry_refused(self) -> None:
        while True:
            await asyncio.sleep(RESUBSCRIBE_S)
            connection = self._connection
            if connection is None:
                continue
            refused, self._refused = self._refused, set()
            for subscription in refused:
                await self._detach(subscription)
                try:
                    await self._attach(connection, subscription)
                except BrokerError as error:
                    log.debug("%s is subscribed with the next connection: %s", subscription.subject, error)

    def _note_error(self, error: Exception) -> None:
        """nats-py's error callback: permission violations; the rest is a loss."""
        denied = refused_subject(error)
        if denied is None:
            return
        self.counters.refused += 1
        action, subject = denied
        if action == "publish":
            self._note_publish_denied(subject)
        else:
            self._note_subscribe_denied(subject)

    def _note_publish_denied(self, subject: str) -> None:
        self._repeat("error", "publish_refused", f"the broker refuses {self._self} to publish to {subject}")
        self._questions.fail(
            lambda question: PolicyDenied(f"the broker refuses {self._self} to ask on {question.subject}"),
            subject,
        )

    def _note_subscribe_denied(self, subject: str) -> None:
        denied = [each for each in self._subscriptions if each.subject.lower() == subject]
        self._refused.update(denied)
        if denied:
            sentence = f"the broker refuses {self._self} to hear {denied[0].subject}"
            self._repeat("error", "subscribe_refused", sentence)

    # Outgoing.

    async def _pump(self) -> None:
        while True:
            await self._filled.wait()
            await self._online.wait()
            if not self._outbox:
                self._filled.clear()
                self._emptied.set()
                continue
            connection = self._connection
            if connection is None:
                continue
            oldest = self._outbox.take()
            try:
                await self._transmit(connection, *oldest, reply="")
            except Unavailable:
                self._outbox.put_back(oldest)
                await asyncio.sleep(RECONNECT_S[0])
            except ConfigError as error:
                self.counters.dropped += 1
                self._repeat("error", "publish_failed", str(error))
            except Exception as error:
                log.exception("publishing to %s failed", oldest.subject)
                self.counters.dropped += 1
                self._repeat("error", "publish_failed", f"{oldest.subject}: {error!r}")

    def _note_dropped(self, number: int) -> None:
        if number:
            self.counters.dropped += number
            self._repeat("warning", "outbox_full", "the broker is away for long: old messages are dropped")

    async def _transmit(
        self,
        connection: Connection,
        subject: str,
        payload: bytes,
        headers: Mapping[str, str] | None,
        reply: str,
    ) -> None:
        try:
            await connection.publish(subject, payload, reply, dict(headers) if headers else None)
        except MaxPayloadError:
            raise ConfigError(
                f"{subject}: {len(payload)} bytes are more than the broker takes ({connection.max_payload})"
            ) from None
        except (BrokerError, OSError) as error:
            if connection.lost.is_set():
                raise Unavailable(f"{subject}: the connection to the broker broke") from error
            raise ConfigError(f"cannot publish to {subject!r}: {error}") from error

    # Questions and answers.

    def _receive_answer(self, message: Message) -> None:
        self._guard(self._questions.answer, subjects.last_token(message.subject), message)

    def _fail_questions(self, why: str) -> None:
        self._questions.fail(lambda question: Unavailable(f"{question.subject}: {why}"))

    async def _answer(self, handler: Callable[[Message], Awaitable[bytes]], message: Message) -> None:
        self._answering += 1
        try:
            self.publish(message.reply, await handler(message))
        except MeshError as error:
            self._refuse(message, error)
        except Exception:
            log.exception("the handler of %s failed", message.subject)
            self._count_failure(f"the handler of {message.subject} failed")
            self._refuse(message, MeshError(f"{self._self} failed; its log says why"))
        finally:
            self._answering -= 1

    def _refuse(self, message: Message, error: MeshError) -> None:
        self.publish(message.reply, str(error).encode(), {ERROR_HEADER: error.reason})

    # Common parts.

    @property
    def _self(self) -> str:
        return f"{self.role} {self.instance}"

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def hand_over(self, callback: Callable[[Message], None], message: Message) -> None:
        """Let somebody read a message; what they refuse (a newer schema, say) and failures are told of."""
        try:
            callback(message)
        except PeerError as error:
            self.counters.messages_refused += 1
            self._repeat("error", "message_refused", f"a message on {message.subject} is refused: {error}")
        except Exception:
            log.exception("the receiver of %s failed", message.subject)
            self._count_failure("a callback failed")

    def _guard(self, callback: Callable[..., None], *arguments: object) -> None:
        """Run somebody's callback; its failure is reported and counted, and ends nothing else."""
        try:
            callback(*arguments)
        except Exception:
            log.exception("a callback of %s failed", self._self)
            self._count_failure("a callback failed")

    def _count_failure(self, what: str) -> None:
        self.counters.callback_errors += 1
        self.report("error", "callback_failed", f"{what}; the log says why")

    def _repeat(self, severity: Literal["info", "warning", "error"], reason: str, sentence: str) -> None:
        """Report what may happen very often at most once in half a minute.

        Reporting can itself publish, and be refused for the same reason.
        """
        now = time.monotonic()
        if now - self._reported_at.get(sentence, -REPEAT_S) >= REPEAT_S:
            if len(self._reported_at) >= 1000:
                self._reported_at.clear()
            self._reported_at[sentence] = now
            self.report(severity, reason, sentence)

    def report(self, severity: Literal["info", "warning", "error"], reason: str, sentence: str) -> None:
        """Log something that a person should know, and tell ``on_event``."""
        log.log(_LEVELS[severity], "%s: %s: %s", self._self, reason, sentence)
        if self._on_event is None:
            return
        try:
            self._on_event(Event(time.time(), severity, reason, sentence, f"{self.role}.{self.instance}"))
        except Exception:
            self.counters.callback_errors += 1
            log.exception("the event callback of %s failed", self._self)


async def end_tasks(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they have ended.

    Once is not enough: ``asyncio.wait_for`` of Python 3.11 and nats-py can swallow a cancellation.
    """
    pending = {task for task in tasks if task is not asyncio.current_task()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CLOSE_TIMEOUT_S + 0.2)


_SUBJECT = re.compile(r"([^\s.*>]+|\*)(\.([^\s.*>]+|\*))*(\.>)?|>")
_QUEUE = re.compile(r"\S*")

_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def _is_on(subscription: Subscription, connection: Connection) -> bool:
    return subscription.raw is not None and subscription.raw[0] is connection


def _why_lost(connection: Connection) -> str:
    error = connection.last_error or connection.trouble
    return str(error).removeprefix("nats: ") if error else "it was closed"


def _pace(error: BaseException) -> tuple[float, float]:
    if is_refusal(error):
        return REFUSED_S
    return OVERLOADED_S if is_overload(error) else RECONNECT_S


def _pause_s(failures: int, pace: tuple[float, float]) -> float:
    least, most = pace
    return random.uniform(least, min(most, least * 2.0**failures))
