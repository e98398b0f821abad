"""Who may publish and subscribe what: one exact allow-list per role and instance.

There are no deny rules, and no list is empty (the broker reads an empty list as "everything").
Subjects end in the name of who speaks wherever the receiver relies on it, so that the broker makes
the name true. A responder answers into the inboxes of the roles that ask it, each reply subject
carrying a random token (:mod:`ray_mesh.bus.client`), so nobody can forge an answer to another's
question. Nobody may purge, delete or roll up a stream; only the controller creates one, and puts back
what admission signed when desired state was lost.

Allow-lists alone do not hold a proxy: the broker answers a Direct Get on whatever reply subject the
request names, with rights of its own, and that subject may be ``$KV...`` or ``$JS.API.STREAM.PURGE...``.
Therefore proxies live in an account of their own (``edge``) that has no JetStream, and reach only
:data:`EXPORTS` of the ``control`` account. What the broker answers them stays in their account.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from ray_mesh.bus import subjects
from ray_mesh.errors import ConfigError

Role: TypeAlias = Literal[
    "controller", "ca", "routing", "policy", "telemetry", "gateway", "proxy", "observer"
]
ROLES: tuple[str, ...] = get_args(Role)

Subjects: TypeAlias = tuple[str, ...]

Account: TypeAlias = Literal["control", "edge"]
ACCOUNTS: tuple[str, ...] = get_args(Account)


@dataclass(frozen=True, slots=True)
class Permissions:
    """The only subjects that one credential may publish to and subscribe, in its account."""

    publish: Subjects
    subscribe: Subjects
    account: Account = "control"


@dataclass(frozen=True, slots=True)
class Export:
    """A subject of one account that the other account sees: heard (stream) or asked (service)."""

    kind: Literal["stream", "service"]
    subject: str


EXPORTS: dict[str, tuple[Export, ...]] = {
    "control": (
        Export("service", subjects.direct_get(subjects.SHARED_BUCKET, ">")),
        Export("service", subjects.direct_get(subjects.PRIVATE_BUCKET, ">")),
        Export("service", subjects.every("csr")),
        Export("service", f"{subjects.ROOT}.quota.*.*"),
        Export("stream", subjects.republished(subjects.SHARED_BUCKET, ">")),
        Export("stream", subjects.republished(subjects.PRIVATE_BUCKET, ">")),
        Export("stream", subjects.every("beacon")),
        Export("stream", subjects.every("role", "policy")),
    ),
    "edge": (
        Export("stream", subjects.every("lease")),
        Export("stream", subjects.every("ack")),
        Export("stream", subjects.every("telemetry")),
        Export("stream", subjects.every("event", "proxy")),
        Export("service", subjects.every("reserve")),
    ),
}
"""All that passes between the accounts, by the account that offers it."""

_ANYBODY = "ANYBODY"

_ANSWERS = "_R_.>"
"""Where the broker lets answers pass to the other account: it makes these reply subjects itself."""


def permissions(role: str, instance: str, *, node: str = "", attested: bool = True) -> Permissions:
    """The allow-lists of one credential.

    ``node`` is where a proxy runs. A proxy that is not ``attested`` (it has no SVID yet) reaches
    its own CSR subject and inbox, nothing else.

    Raises:
        ConfigError: an unknown role, or a name that cannot be a token of a subject.
    """
    if role not in ROLES:
        raise ConfigError(f"{role!r} is no role of the mesh: one of {', '.join(ROLES)}")
    inbox = (f"{subjects.inbox(role, instance)}.>",)
    if role == "observer":
        return Permissions(publish=inbox, subscribe=(*inbox, *_OBSERVED))
    if role == "proxy":
        publish, subscribe = _proxy(instance, node) if attested else ((subjects.csr(instance),), ())
        return Permissions(publish, (*inbox, *subscribe), account="edge")
    publish, subscribe = _CONTROL[role](instance)
    own = (subjects.role(role, instance), subjects.event(role, instance))
    return Permissions((*own, *publish), (*inbox, *subscribe))


def shared_permissions(account: Account) -> Permissions:
    """What one credential for all roles of an account needs, on a NATS where not each has its own.

    The one of ``control`` also looks at the account, and removes what the mesh made when it ends.
    """
    anybody = [permissions(role, _ANYBODY, node=_ANYBODY) for role in ROLES if role != "observer"]
    lists = [one for one in anybody if one.account == account]
    publish = [subject for one in lists for subject in one.publish]
    subscribe = [subject for one in lists for subject in one.subscribe]
    if account == "control":
        publish += [
            "$JS.API.INFO",
            *(f"$JS.API.STREAM.DELETE.{subjects.stream(b)}" for b in subjects.BUCKETS),
        ]
    return Permissions(_of_all(publish), _of_all(subscribe), account)


def whole_permissions() -> Permissions:
    """What the one credential for roles and proxies needs, where all are in one account.

    There an answer goes straight to the inbox of a proxy.
    """
    control, edge = shared_permissions("control"), shared_permissions("edge")
    return Permissions(
        _of_all([*control.publish, *edge.publish, _inboxes("proxy")]),
        _of_all([*control.subscribe, *edge.subscribe]),
    )


def _of_all(subjects_of_one: Iterable[str]) -> Subjects:
    """Each subject once, in its widest form."""
    wide = dict.fromkeys(subject.replace(_ANYBODY, "*") for subject in subjects_of_one)
    return tuple(one for one in wide if not any(other != one and covers(other, one) for other in wide))


def covers(wide: str, subject: str) -> bool:
    """Whether every subject that ``subject`` matches is matched by ``wide`` too."""
    ours, theirs = wide.split("."), subject.split(".")
    for position, name in enumerate(ours):
        if name == ">":
            return len(theirs) > position
        if position >= len(theirs) or theirs[position] == ">" or name not in ("*", theirs[position]):
            return False
    return len(ours) == len(theirs)


def _proxy(name: str, node: str) -> tuple[Subjects, Subjects]:
    mine = f"{subjects.token(node)}.>"
    publish = (
        subjects.csr(name),
        subjects.lease(name),
        subjects.ack(name),
        subjects.telemetry(name),
        subjects.event("proxy", name),
        f"{subjects.ROOT}.quota.*.{subjects.token(name)}",
        subjects.direct_get(subjects.SHARED_BUCKET, ">"),
        subjects.direct_get(subjects.PRIVATE_BUCKET, mine),
        _ANSWERS,
    )
    subscribe = (
        subjects.republished(subjects.SHARED_BUCKET, ">"),
        subjects.republished(subjects.PRIVATE_BUCKET, mine),
        subjects.every("beacon"),
        subjects.every("role", "policy"),
        subjects.reserve(node),
    )
    return publish, subscribe


def _controller(instance: str) -> tuple[Subjects, Subjects]:
    streams = tuple(
        f"$JS.API.STREAM.{verb}.{subjects.stream(bucket)}"
        for bucket in subjects.BUCKETS
        for verb in ("CREATE", "UPDATE")
    )
    restored = subjects.stored(subjects.DESIRED_BUCKET, ">")
    publish = (*streams, restored, *_reads(*subjects.BUCKETS), _inboxes("gateway"))
    return publish, (*_follows(*subjects.BUCKETS), subjects.every("control"), *_LIVENESS, *_OBSERVED)


def _ca(instance: str) -> tuple[Subjects, Subjects]:
    publish = (*_reads(subjects.DESIRED_BUCKET), _ANSWERS)
    return publish, (*_follows(subjects.DESIRED_BUCKET), subjects.every("csr"), *_LIVENESS)


def _routing(instance: str) -> tuple[Subjects, Subjects]:
    publish = (
        subjects.beacon(instance),
        subjects.stored(subjects.SHARED_BUCKET, ">"),
        subjects.stored(subjects.PRIVATE_BUCKET, ">"),
        *_reads(*subjects.BUCKETS),
    )
    return publish, (*_follows(*subjects.BUCKETS), *_LIVENESS)


def _policy(instance: str) -> tuple[Subjects, Subjects]:
    publish = (*_reads(subjects.DESIRED_BUCKET), _ANSWERS)
    asked = subjects.every("quota", instance)
    return publish, (*_follows(subjects.DESIRED_BUCKET), asked, *_LIVENESS)


def _telemetry(instance: str) -> tuple[Subjects, Subjects]:
    return (_inboxes("gateway"),), (subjects.every("telemetry"), subjects.query(instance), *_LIVENESS)


def _gateway(instance: str) -> tuple[Subjects, Subjects]:
    publish = (
        subjects.stored(subjects.DESIRED_BUCKET, ">"),
        *_reads(*subjects.BUCKETS),
        subjects.every("reserve"),
        subjects.every("query"),
        subjects.every("control"),
    )
    return publish, (*_follows(*subjects.BUCKETS), *_LIVENESS, subjects.every("ack"), *_OBSERVED)


_CONTROL = {
    "controller": _controller,
    "ca": _ca,
    "routing": _routing,
    "policy": _policy,
    "telemetry": _telemetry,
    "gateway": _gateway,
}

_LIVENESS = (subjects.every("lease"), f"{subjects.ROOT}.role.>", subjects.every("beacon"))
_OBSERVED = (subjects.every("telemetry"), f"{subjects.ROOT}.event.>")


def _reads(*buckets: str) -> Subjects:
    """Every form of reading whole buckets, none of writing."""
    return tuple(
        form
        for bucket in buckets
        for form in (
            f"$JS.API.STREAM.INFO.{subjects.stream(bucket)}",
            f"$JS.API.DIRECT.GET.{subjects.stream(bucket)}",
            subjects.direct_get(bucket, ">"),
        )
    )


def _follows(*buckets: str) -> Subjects:
    return tuple(subjects.republished(bucket, ">") for bucket in buckets)


def _inboxes(role: str) -> str:
    """Where answers to one role go."""
    return f"_INBOX.{role}.*.>"
