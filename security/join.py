"""Join tokens: how a program outside Ray proves, once, that an admin wants it in the mesh.

A token is 32 random bytes that an admin is told once; here only its SHA-256 is known, with the one
service account that it is for and when it expires. Trying a token uses it up before anything about the
try is looked at, so a token that was intercepted and tried is dead for everybody, which is noticed.

Pure state: events in, decisions out, no clock of its own. The caller stores it before acting on it.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field

from ray_mesh.errors import ConfigError, PolicyDenied, Unauthenticated
from ray_mesh.security.identity import for_workload

SIDECAR_PREFIX = "sidecar-"
"""Nodes and proxies outside Ray have names that begin so; none of Ray's does."""

MAX_TTL_S = 86_400
KEPT_S = 86_400.0
"""A token is remembered this long after its end, so that its refusal can say what is wrong."""
MOST_TOKENS = 10_000

_HOW_TO = "an admin makes a new one with `ray-mesh token create`"


@dataclass(slots=True)
class JoinToken:
    """One token. ``account`` is ``<namespace>/<service account>``."""

    account: str
    expires_at: float
    used: bool = False


@dataclass(slots=True)
class JoinTokens:
    """All tokens of a mesh, by the SHA-256 of the token in hexadecimal."""

    tokens: dict[str, JoinToken] = field(default_factory=dict)

    def add(self, sha256: str, account: str, ttl_s: float, now: float) -> JoinToken:
        """An admin made a token.

        Raises:
            ConfigError: the account cannot be one, the life is out of range, or there are too many.
        """
        namespace, _, name = account.partition("/")
        for_workload("check.local", namespace, name)
        if not 1 <= ttl_s <= MAX_TTL_S:
            raise ConfigError(f"a join token lives 1 to {MAX_TTL_S} s, not {ttl_s:g}")
        self.tokens = {key: one for key, one in self.tokens.items() if now < one.expires_at + KEPT_S}
        if len(self.tokens) >= MOST_TOKENS:
            raise ConfigError(f"there are {MOST_TOKENS} join tokens already; old ones go after a day")
        self.tokens[sha256] = JoinToken(account, now + ttl_s)
        return self.tokens[sha256]

    def redeem(self, sha256: str, account: str, now: float) -> None:
        """Use a token up, for ``account``. Whatever the outcome, it can not be used again.

        Raises:
            Unauthenticated: there is no such token.
            PolicyDenied: it was used, is expired, or is for another service account.
        """
        token = self.tokens.get(sha256)
        if token is None:
            raise Unauthenticated(f"this is no join token of this mesh: {_HOW_TO}")
        if token.used:
            raise PolicyDenied(f"this join token was used already, and is good for one sidecar: {_HOW_TO}")
        token.used = True
        if now >= token.expires_at:
            raise PolicyDenied(f"this join token expired {now - token.expires_at:.0f} s ago: {_HOW_TO}")
        if account != token.account:
            raise PolicyDenied(
                f"this join token is for service account {token.account}, not {account},"
                f" and is used up by this try: {_HOW_TO}"
            )


def new_secret() -> tuple[str, str]:
    """A random token and its hash."""
    token = secrets.token_urlsafe(32)
    return token, secret_sha256(token)


def secret_sha256(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def sidecar_proxy(node: str, suffix: str) -> str:
    """The name of the proxy of a sidecar's node; the node can be read back from it."""
    return f"{node}-{suffix}"


def is_of_node(proxy: str, node: str) -> bool:
    """Whether a proxy may claim to be on a node. A sidecar's name, which the broker makes true, says where
    it is, so that no sidecar can speak of the workloads of others."""
    is_outside = node.startswith(SIDECAR_PREFIX) or proxy.startswith(SIDECAR_PREFIX)
    return not is_outside or proxy.rpartition("-")[0] == node
