"""What is asked: who calls, and with which request."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ray_mesh.errors import ConfigError

Pairs = tuple[tuple[str, str], ...]
SCHEMES = ("http", "https", "tcp")
_URL = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*)://)?([^/?#\s]*)([/?][^\s]*)?")
_METHOD = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,32}")
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the ``workload`` or ``gateway`` (a Gateway or an ingress workload) of that
    ``namespace/name``, else any workload with these ``labels``, ``namespace`` and ``account``."""

    workload: str = ""
    gateway: str = ""
    labels: Pairs = ()
    namespace: str = "default"
    account: str = "default"


@dataclass(frozen=True, slots=True)
class Question:
    """One request. ``authority`` is the host with its port as the client writes it, ``port`` 0 when it writes
    none. ``sni`` is the server name of TLS."""

    caller: Caller
    method: str
    scheme: str
    authority: str
    target: str
    port: int = 0
    headers: Pairs = ()
    client_ip: str = "192.0.2.1"
    sni: str = ""

    @property
    def is_connection(self) -> bool:
        """Whether bytes are sent and no requests: CONNECT, TLS from a workload, TCP."""
        inside = not self.caller.gateway and self.scheme == "https"
        return self.method == "CONNECT" or self.scheme == "tcp" or inside

    def __str__(self) -> str:
        if self.method == "CONNECT":
            return f"CONNECT {self.authority}" + (f" (SNI {self.sni})" if self.sni else "")
        return f"{self.method} {self.scheme}://{self.authority}{self.target}"


def ask(
    caller: Caller,
    url: str,
    method: str = "GET",
    headers: Sequence[tuple[str, str]] = (),
    *,
    client_ip: str = "192.0.2.1",
    sni: str = "",
) -> Question:
    """The question about one URL: ``http://host[:port]/path?query``, without scheme too; ``host:port`` with
    CONNECT. At a gateway a ``host`` header stands instead of the URL's host; of a workload's requests the
    URL's counts, as its proxy has it.

    Raises:
        ConfigError: it is no URL, no method or no header.
    """
    found = _URL.fullmatch(url)
    scheme = (found[1] or "http").lower() if found else ""
    if found is None or not found[2] or scheme not in SCHEMES:
        raise ConfigError(
            f"{url!r} is not a URL of {', '.join(SCHEMES)}: write http://reviews:9080/reviews/0"
        )
    if "@" in found[2]:
        raise ConfigError(f"{url!r} names a user: the source is said apart")
    if not _METHOD.fullmatch(method):
        raise ConfigError(f"{method!r} is not a method")
    rest = found[3] or "/"
    fields = tuple((_checked(name).lower(), value.strip()) for name, value in headers)
    said = next((value for name, value in fields if name == "host"), found[2])
    if said != found[2] and not caller.gateway:
        raise ConfigError(f"the URL says {found[2]} and the host header {said}: write the host in the URL")
    return Question(
        caller=caller,
        method=method.upper() if method.upper() == "CONNECT" else method,
        scheme=scheme,
        authority=said,
        target=rest if rest[0] == "/" else f"/{rest}",
        port=_port(found[2], url),
        headers=tuple(pair for pair in fields if pair[0] != "host"),
        client_ip=client_ip,
        sni=sni.lower(),
    )


def _port(authority: str, url: str) -> int:
    _, colon, number = authority.rpartition(":")
    if not colon or "]" in number:
        return 0
    if not (number.isascii() and number.isdigit() and 0 < int(number[:6]) < 65536):
        raise ConfigError(f"{url!r}: {number!r} is not a port")
    return int(number)


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is not the name of a header")
    return name


def read_question(plain: Any) -> Question:
    """A question from its JSON object, as :func:`write_question` makes it.

    Raises:
        ConfigError: a field is missing, unknown or of another type.
    """
    body = _object(plain, {"caller", "url", "method", "headers", "client_ip", "sni"}, "a question")
    said = _object(
        body.get("caller", {}), {"workload", "gateway", "labels", "namespace", "account"}, "caller"
    )
    texts = {
        name: _text(said, name) for name in ("workload", "gateway", "namespace", "account") if name in said
    }
    caller = Caller(**texts, labels=tuple(sorted(_labels(said.get("labels", {})).items())))
    headers = body.get("headers", [])
    is_pairs = isinstance(headers, list) and all(
        isinstance(one, list) and len(one) == 2 and all(isinstance(text, str) for text in one)
        for one in headers
    )
    if not is_pairs:
        raise ConfigError('headers are a list of pairs: [["end-user", "jason"]]')
    return ask(
        caller,
        _text(body, "url"),
        _text(body, "method") if "method" in body else "GET",
        [(name, value) for name, value in headers],
        client_ip=_text(body, "client_ip") if "client_ip" in body else "192.0.2.1",
        sni=_text(body, "sni") if "sni" in body else "",
    )


def write_question(question: Question, url: str) -> dict[str, Any]:
    """The JSON object of a question about a URL."""
    caller = {**asdict(question.caller), "labels": dict(question.caller.labels)}
    headers = [list(pair) for pair in question.headers]
    if question.authority != _authority(url):
        headers.append(["host", question.authority])
    return {
        "caller": caller,
        "url": url,
        "method": question.method,
        "headers": headers,
        "client_ip": question.client_ip,
        "sni": question.sni,
    }


def _authority(url: str) -> str:
    found = _URL.fullmatch(url)
    return found[2] if found is not None else ""


def _object(plain: Any, known: set[str], what: str) -> dict[str, Any]:
    if not isinstance(plain, dict) or not plain.keys() <= known:
        raise ConfigError(f"{what} is a JSON object with {', '.join(sorted(known))}")
    return plain


def _text(plain: dict[str, Any], name: str) -> str:
    value = plain.get(name)
    if not isinstance(value, str):
        raise ConfigError(f"{name} is text")
    return value


def _labels(plain: Any) -> dict[str, str]:
    if not isinstance(plain, dict) or not all(isinstance(value, str) for value in plain.values()):
        raise ConfigError("labels are a map of text to text")
    return plain
