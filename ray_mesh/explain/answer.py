"""What an explanation says: frozen values, the same in a program, in JSON and in YAML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from ray_mesh.errors import PeerError

Outcome = Literal["forwarded", "answered", "refused", "partly_refused"]


@dataclass(frozen=True, slots=True)
class Ground:
    """What something rests on: the key of a document, a path in it, and its ``file:line:column``. Empty when
    no document says it."""

    document: str = ""
    path: str = ""
    where: str = ""


NOWHERE = Ground()


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence under a step: a reason, or what did not apply and why."""

    says: str
    ground: Ground = NOWHERE


@dataclass(frozen=True, slots=True)
class Step:
    """One decision. ``stage`` is a stable word; a step that ``refuses`` is the last of its way."""

    stage: str
    says: str
    ground: Ground = NOWHERE
    notes: tuple[Note, ...] = ()
    refuses: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """How it ends. ``status`` is that of the mesh's own answer, 0 when the application answers; ``flag`` is
    Envoy's (NR, UH, UAEX, ...), ``reason`` the word in the answer's body."""

    outcome: Outcome
    message: str
    status: int = 0
    flag: str = ""
    reason: str = ""
    ground: Ground = NOWHERE


@dataclass(frozen=True, slots=True)
class Share:
    """What becomes of ``percent`` of the requests: those that go to one destination."""

    host: str
    subset: str
    port: int
    percent: float
    endpoints: tuple[str, ...]
    steps: tuple[Step, ...]
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Explanation:
    """The whole answer. ``source`` names who calls, ``principal`` is its identity as policies know it (empty:
    none). ``warnings`` say what the answer had to assume, or does not know."""

    request: str
    source: str
    principal: str
    verdict: Verdict
    steps: tuple[Step, ...]
    shares: tuple[Share, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def is_refused(self) -> bool:
        """Whether any of such requests would be refused."""
        return self.verdict.outcome in ("refused", "partly_refused")


def read_explanation(plain: Any) -> Explanation:
    """An explanation from its JSON value.

    Raises:
        PeerError: it is none, or of another version.
    """
    return Explanation(
        **_known(Explanation, plain, ("verdict", "steps", "shares", "warnings")),
        verdict=_verdict(_field(plain, "verdict")),
        steps=_steps(_field(plain, "steps")),
        shares=tuple(_share(one) for one in _list(_field(plain, "shares"))),
        warnings=tuple(str(one) for one in _list(_field(plain, "warnings"))),
    )


def _share(plain: Any) -> Share:
    return Share(
        **_known(Share, plain, ("endpoints", "steps", "verdict")),
        endpoints=tuple(str(one) for one in _list(_field(plain, "endpoints"))),
        steps=_steps(_field(plain, "steps")),
        verdict=_verdict(_field(plain, "verdict")),
    )


def _steps(plain: Any) -> tuple[Step, ...]:
    return tuple(
        Step(
            **_known(Step, one, ("ground", "notes")), ground=_ground(one), notes=_notes(_field(one, "notes"))
        )
        for one in _list(plain)
    )


def _notes(plain: Any) -> tuple[Note, ...]:
    return tuple(Note(**_known(Note, one, ("ground",)), ground=_ground(one)) for one in _list(plain))


def _verdict(plain: Any) -> Verdict:
    return Verdict(**_known(Verdict, plain, ("ground",)), ground=_ground(plain))


def _ground(plain: Any) -> Ground:
    return Ground(**_known(Ground, _field(plain, "ground"), ()))


def _known(cls: type[Any], plain: Any, nested: Iterable[str]) -> dict[str, Any]:
    names = [one.name for one in fields(cls) if one.name not in nested]
    return {name: _field(plain, name) for name in names}


def _field(plain: Any, name: str) -> Any:
    if not isinstance(plain, Mapping) or name not in plain:
        raise PeerError(f"the API answered an explanation without {name!r}: is it another version?")
    return plain[name]


def _list(plain: Any) -> list[Any]:
    if not isinstance(plain, list):
        raise PeerError(f"the API answered {plain!r:.80} where a list was expected")
    return plain
