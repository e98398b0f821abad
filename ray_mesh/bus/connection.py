"""One connection to the broker, from handshake to loss: with its reader, all that imports nats-py.

nats-py's own reconnecting is off. It gives up for good on several errors (an expired or removed
user, any unknown ``-ERR``), so :mod:`ray_mesh.bus.client` makes a new connection in every case.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import re
import ssl
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import nats.errors
from nats.aio.client import Client, RawCredentials
from nats.aio.subscription import Subscription as RawSubscription

from ray_mesh.bus.credentials import BrokerAddress, Credential, Login
from ray_mesh.bus.envelope import NO_HEADERS, Message
from ray_mesh.bus.wire import Reader, read_headers
from ray_mesh.errors import ConfigError, Unavailable

CONNECT_TIMEOUT_S = 5
PING_INTERVAL_S = 5
MAX_MISSED_PINGS = 2
CLOSE_TIMEOUT_S = 1.0

BrokerError: TypeAlias = nats.errors.Error
"""What the broker or nats-py refuses."""
MaxPayloadError: TypeAlias = nats.errors.MaxPayloadError
Receive: TypeAlias = Callable[[Message], None]

_VIOLATION = re.compile(r'permissions violation for (publish|subscription) to "([^"]*)"')


class Connection(Client):
    """A nats-py client that insists on TLS and says at once when it is lost."""

    def __init__(self, address: BrokerAddress) -> None:
        super().__init__()
        self._address = address
        self._receivers: dict[int, Receive] = {}
        self._ps = Reader(self)
        self.lost = asyncio.Event()
        self.trouble: Exception | None = None

    async def hear(self, subject: str, queue: str, receive: Receive) -> RawSubscription:
        """Subscribe. ``receive`` gets each message as it is read, in the order of the connection; it must not
        block, nor raise.

        Raises:
            BrokerError: the connection is closed.
        """
        if self.is_closed:
            raise nats.errors.ConnectionClosedError
        self._sid += 1
        subscription = RawSubscription(self, self._sid, subject, queue)
        self._subs[self._sid], self._receivers[self._sid] = subscription, receive
        await self._send_subscribe(subscription)
        return subscription

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        self.deliver(sid, subject, reply, data, headers)

    def deliver(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        """Hand a message to who hears it. nats-py hands it to a queue and a task of the subscription instead:
        that costs more than reading it, and loses the order among subscriptions."""
        receive = self._receivers.get(sid)
        if receive is not None:
            found = read_headers(headers) if headers else NO_HEADERS
            receive(Message(subject.decode(), data, found, reply.decode()))

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        self._receivers.pop(sid, None)
        super()._remove_sub(sid, max_msgs)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        # nats-py goes on in clear text when INFO does not ask for TLS, whatever the URL says. Whoever
        # sits in between could then have any nonce signed and log in with the answer.
        if initial_connection and not info.get("tls_required") and not self._may_be_plain():
            raise nats.errors.Error("the broker does not offer TLS")
        await super()._process_info(info, initial_connection)

    def _may_be_plain(self) -> bool:
        server = self._current_server
        return server is not None and not self._address.embedded and is_plain_loopback(server.uri.geturl())

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the server said of itself: version, cluster, limits."""
        return self._server_info

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        # Everything that ends a connection comes through here. Closing may wait long for a dead
        # peer, and the next connection must not.
        self.lost.set()
        self._receivers.clear()
        await super()._close(status, do_cbs)

    async def end(self) -> None:
        """Close, whatever state the connection is in, within about a second."""
        if self.is_connected and not self.lost.is_set():
            with contextlib.suppress(OSError, nats.errors.Error, TimeoutError):
                await asyncio.wait_for(self.close(), CLOSE_TIMEOUT_S)
        # Else nats-py closes it already, or it was never open; either can wait long for a dead peer.
        self._abort()

    def _abort(self) -> None:
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()


async def open_connection(
    address: BrokerAddress,
    credential: Credential | Login,
    name: str,
    on_error: Callable[[Exception], None],
) -> Connection:
    """Connect and log in to one of the servers of ``address``.

    Raises:
        Unavailable: no server answers, or it refuses; the message says why.
        ConfigError: the address cannot be used.
    """
    servers, trust = split_servers(address.url), _trust(address)
    connection = Connection(address)

    async def note(error: Exception) -> None:
        connection.trouble = error
        on_error(error)

    try:
        await connection.connect(
            servers=servers,
            tls=trust,
            name=name,
            **_login(credential),
            error_cb=note,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=CONNECT_TIMEOUT_S,
            ping_interval=PING_INTERVAL_S,
            max_outstanding_pings=MAX_MISSED_PINGS,
        )
    except (nats.errors.Error, OSError, TimeoutError) as error:
        await connection.end()
        trouble = connection.trouble or error
        raise Unavailable(f"{address.url}: {_reason(trouble, address)}") from trouble
    except BaseException:
        await connection.end()
        raise
    return connection


def refused_subject(error: Exception) -> tuple[str, str] | None:
    """``("publish" | "subscription", subject in lower case)`` if the broker denied permission."""
    found = _VIOLATION.search(str(error))
    return (found[1], found[2]) if found else None


def is_refusal(error: BaseException) -> bool:
    """Whether the broker knows no such user (rather than being away)."""
    return "authorization violation" in str(error).lower()


def is_overload(error: BaseException) -> bool:
    """Whether the broker was there and did not get round to us."""
    return isinstance(error.__cause__, TimeoutError) or "timeout" in str(error.__cause__).lower()


def is_plain_loopback(server: str) -> bool:
    """Whether a server's address asks for no TLS and never leaves this machine."""
    parts = urlsplit(server)
    try:
        is_loopback = ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        is_loopback = parts.hostname == "localhost"
    return parts.scheme == "nats" and is_loopback


def split_servers(url: str) -> list[str]:
    """The servers of an address.

    Raises:
        ConfigError: there is none, or one is not ``tls://`` or ``nats://``.
    """
    servers = [server.strip() for server in url.split(",") if server.strip()]
    if not servers or not all(server.startswith(("tls://", "nats://")) for server in servers):
        raise ConfigError(f"broker address {url!r}: write tls://host:port, several with commas")
    return servers


def _login(credential: Credential | Login) -> dict[str, Any]:
    options = credential.login()
    # nats-py takes a plain string for the path of a file.
    if "user_credentials" in options:
        options["user_credentials"] = RawCredentials(options["user_credentials"])
    return options


def _trust(address: BrokerAddress) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if address.embedded else ssl.TLSVersion.TLSv1_2
    if not address.ca_pem and not address.embedded:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(cadata=address.ca_pem)
    except ssl.SSLError as error:
        raise ConfigError(f"the broker's CA file is not a PEM certificate: {error}") from error
    return context


def _reason(error: BaseException, address: BrokerAddress) -> str:
    if isinstance(error, ssl.SSLCertVerificationError) and not address.embedded:
        return f"its certificate is not trusted: {error.verify_message} (--nats-ca names the CA's file)"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not the broker's of this mesh: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_TIMEOUT_S} s"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error).removeprefix("nats: ") or type(error).__name__


__all__ = [
    "CLOSE_TIMEOUT_S",
    "BrokerError",
    "Connection",
    "MaxPayloadError",
    "RawSubscription",
    "Receive",
    "is_overload",
    "is_plain_loopback",
    "is_refusal",
    "open_connection",
    "refused_subject",
    "split_servers",
]
