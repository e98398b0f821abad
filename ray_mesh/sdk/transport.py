"""JSON over HTTP to the API of a mesh, with the API's errors raised as this package's."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import ssl
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from ray_mesh import errors
from ray_mesh.errors import ConfigError, MeshError, PeerError, Unavailable

CONNECT_TIMEOUT_S = 5.0
RETRY_PAUSES_S = (0.1, 0.3, 1.0)
"""Reads are tried again after these pauses: a replica of the gateway may just be restarting."""

Query = Mapping[str, str | int | float]


class Transport:
    """One HTTP session with the token in it. Nothing is sent anywhere but to ``api``.

    Off loopback ``api`` is https, verified with ``root_pem`` and nothing else: not with the
    certificates that this machine trusts otherwise.

    Raises:
        ConfigError: ``api`` would carry the token in the clear, or has nothing to be verified with.
    """

    def __init__(self, api: str, token: str, author: str, timeout_s: float, root_pem: str = "") -> None:
        self._api = api.rstrip("/")
        self._tls = _tls(self._api, root_pem)
        self._timeout_s = timeout_s
        self._headers = {"Authorization": f"Bearer {token}", "Mesh-Author": author}
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, query: Query | None = None, *, timeout_s: float | None = None) -> Any:
        """Read; a connection that fails is tried again.

        Raises:
            MeshError: the class that the API's error word names.
            Unavailable: no answer in time.
        """
        for pause_s in RETRY_PAUSES_S:
            try:
                return await self.send("GET", path, query, timeout_s=timeout_s)
            except Unavailable as error:
                if not isinstance(error.__cause__, aiohttp.ClientConnectionError):
                    raise
                await asyncio.sleep(pause_s)
        return await self.send("GET", path, query, timeout_s=timeout_s)

    async def send(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        *,
        body: Any = None,
        timeout_s: float | None = None,
    ) -> Any:
        """Send one request, once.

        Raises:
            MeshError: the class that the API's error word names.
            Unavailable: no answer in time.
        """
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        timeout = aiohttp.ClientTimeout(total=limit_s, sock_connect=min(CONNECT_TIMEOUT_S, limit_s))
        try:
            async with self._open().request(
                method, self._api + path, params=query, json=body, timeout=timeout, allow_redirects=False
            ) as response:
                raw = await response.read()
                return _answer(response.status, raw, f"{method} {path}")
        except TimeoutError as error:
            raise Unavailable(f"{self._api} did not answer {method} {path} in {limit_s:g} s") from error
        except aiohttp.ClientError as error:
            raise Unavailable(
                f"cannot reach the mesh at {self._api}: {error}. Is it still running? (`ray-mesh status`)"
            ) from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # A proxy from the environment (perhaps the mesh's own) must not see the API.
            self._session = aiohttp.ClientSession(
                headers=self._headers,
                trust_env=False,
                connector=aiohttp.TCPConnector(ssl=self._tls if self._tls is not None else True),
            )
        return self._session


def _tls(api: str, root_pem: str) -> ssl.SSLContext | None:
    url = urlsplit(api)
    if url.scheme == "http":
        if not _is_loopback(url.hostname or ""):
            raise ConfigError(f"{api}: off this machine the API is https, and the token goes nowhere else")
        return None
    if url.scheme != "https" or not url.hostname:
        raise ConfigError(f"{api!r} is not the URL of an API, such as https://192.0.2.1:7443")
    if not root_pem:
        raise ConfigError(f"{api} needs the mesh's root certificate: the state file has it")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cadata=root_pem)
    except ssl.SSLError as error:
        raise ConfigError(f"the mesh's root certificate is not one: {error}") from error
    return context


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def error_of(status: int, body: Mapping[str, Any]) -> MeshError:
    """The error that an API body describes: its class is named by the word in ``error``."""
    message = str(body.get("message", f"the API answered {status}"))
    cls = _by_reason().get(str(body.get("error", "")), _by_status(status))
    error = cls(message)
    if isinstance(error, ConfigError):
        error.findings = tuple(_findings(body.get("findings")))
    return error


def _answer(status: int, raw: bytes, what: str) -> Any:
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise PeerError(f"{what}: status {status} with a body that is not JSON: {raw[:120]!r}") from error
    if status >= 400:
        raise error_of(status, body if isinstance(body, dict) else {})
    return body


def _findings(plain: Any) -> Iterator[dict[str, str]]:
    for one in plain if isinstance(plain, list) else ():
        if isinstance(one, dict):
            yield {str(name): str(value) for name, value in one.items()}


def _by_reason() -> dict[str, type[MeshError]]:
    classes = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, MeshError)]
    return {cls.reason: cls for cls in classes}


def _by_status(status: int) -> type[MeshError]:
    return next((cls for cls in _by_reason().values() if cls.status == status), MeshError)
