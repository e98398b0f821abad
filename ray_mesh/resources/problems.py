"""What is wrong with a document, in words that name the place and the cure."""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from ray_mesh.resources.schema import Flaw, Later, Model, Only
from ray_mesh.resources.source import Path, show

_NESTED = (Model, tuple, dict)


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding of a document on its own. ``where`` is ``file:line:column``; ``later`` says that the
    document is valid and this build does not honour it, ``never`` that no build will."""

    where: str
    title: str
    path: Path
    message: str
    later: bool
    never: bool = False

    def __str__(self) -> str:
        place = "" if self.later or not self.path else f"{show(self.path)}: "
        return f"{self.where}: {self.title}: {place}{self.message}"


def nearest(name: str, known: Iterable[str]) -> str:
    """A suggestion to end a message with, or what is known when nothing is near."""
    names = sorted(known)
    by_fold = {candidate.lower(): candidate for candidate in names}
    close = get_close_matches(to_camel(name).lower(), by_fold, 1, 0.6)
    if close:
        return f"; did you mean {by_fold[close[0]]}?"
    return f"; known here: {', '.join(names)}" if names else ""


def find_flaws(model: Model, path: Path) -> Iterator[Flaw]:
    """All flaws of a model and below, and every field that is set and not honoured."""
    for flaw in model.flaws():
        yield Flaw((*path, *flaw.path), f" {flaw.message}" if flaw.later else flaw.message, flaw.later)
    set_here = model.model_fields_set
    for name, shown, later, only in _marks(type(model)):
        if name not in set_here:
            continue
        below, value = (*path, shown), getattr(model, name)
        if later:
            yield Flaw(below, f": {later.reason}" if later.reason else "", later=True)
            yield from (flaw for flaw in _descend(value, below) if not flaw.later)
            continue
        for mark in only:
            yield from _not_honoured(mark, value, below)
        if isinstance(value, _NESTED):
            yield from _descend(value, below)


@cache
def _marks(model: type[Model]) -> tuple[tuple[str, str, Later | None, tuple[Only, ...]], ...]:
    """Name, name as written and marks of each field; reading them anew is what checking spent most on."""
    return tuple(
        (
            name,
            field.alias or name,
            next((mark for mark in field.metadata if isinstance(mark, Later)), None),
            tuple(mark for mark in field.metadata if isinstance(mark, Only)),
        )
        for name, field in model.model_fields.items()
    )


def not_supported(flaw: Flaw) -> str:
    """The refusal of a valid field, by name."""
    return f"not supported yet: {show(flaw.path)}{flaw.message}"


def _not_honoured(mark: Only, value: Any, path: Path) -> Iterator[Flaw]:
    reason = f": {mark.reason}" if mark.reason else ""
    if isinstance(value, tuple):
        for index, item in enumerate(value):
            if item not in mark.values:
                yield Flaw((*path, index), f" {item}{reason}", later=True)
    elif value is not None and value not in mark.values:
        yield Flaw(path, f" {value}{reason}", later=True)


def _descend(value: Any, path: Path) -> Iterator[Flaw]:
    if isinstance(value, Model):
        yield from find_flaws(value, path)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _descend(item, (*path, index))
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _descend(item, (*path, name))


def invalid_fields(error: ValidationError, model: type[Model], value: Any) -> Iterator[tuple[Path, str]]:
    """Path and message of everything that a model refused of ``value``."""
    seen = set()
    for detail in error.errors(include_url=False):
        path = _written(detail["loc"], value, is_missing=detail["type"] == "missing")
        found = _value_at(value, path)
        if detail["type"] == "too_short" and len(found) >= detail.get("ctx", {}).get("min_length", 0):
            continue  # Items that are invalid were not counted, and are told themselves.
        message = _message(detail, model, path, found)
        if (path, message) not in seen:
            seen.add((path, message))
            yield path, message


def _message(detail: ErrorDetails, model: type[Model], path: Path, value: Any) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        owner = _model_at(model, path[:-1])
        return f"unknown field{nearest(str(path[-1]), _aliases(owner))}"
    if kind == "missing":
        return "required"
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", context["expected"])
        close = get_close_matches(str(value).upper(), known, 1, 0.6)
        return f"{value!r} is not one of {context['expected']}" + (
            f"; did you mean {close[0]}?" if close else ""
        )
    if kind == "value_error":
        return f"{value!r} is {context['error']}"
    text = detail["msg"][0].lower() + detail["msg"][1:]
    if kind == "string_type" and isinstance(value, bool | int | float):
        return f"{text}, got {value!r}: quote it"
    return f"{text}, got {_brief(value)}"


def _brief(value: Any) -> str:
    if isinstance(value, dict):
        return "a map"
    return "a list" if isinstance(value, list) else f"{value!r:.60}"


def _written(location: tuple[int | str, ...], value: Any, *, is_missing: bool) -> Path:
    """The part of a pydantic location that is really in the document (it also names union members)."""
    path: list[int | str] = []
    for step in location:
        if isinstance(value, dict) and step in value:
            value = value[str(step)]
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        elif is_missing:
            path.append(step)
            break
        else:
            break
        path.append(step)
    return tuple(path)


def _value_at(value: Any, path: Path) -> Any:
    for step in path:
        if isinstance(value, dict | list):
            value = value.get(step) if isinstance(value, dict) else value[int(step)]
    return value


def _aliases(model: type[Model] | None) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _model_at(model: type[Model], path: Path) -> type[Model] | None:
    kind: Any = model
    for step in path:
        kind = _below(kind, step)
    return kind if isinstance(kind, type) and issubclass(kind, Model) else None


def _below(kind: Any, step: str | int) -> Any:
    if isinstance(kind, type) and issubclass(kind, Model):
        fields = {field.alias: field.annotation for field in kind.model_fields.values()}
        return _bare(fields.get(str(step)))
    origin, args = get_origin(kind), get_args(kind)
    if origin is tuple:
        return _bare(args[0])
    return _bare(args[1]) if origin in (dict, Mapping) else None


def _bare(kind: Any) -> Any:
    """A type without Annotated and without ``| None``."""
    while True:
        origin = get_origin(kind)
        if origin is Annotated:
            kind = get_args(kind)[0]
        elif origin in (Union, types.UnionType):
            kind = next((arg for arg in get_args(kind) if arg is not type(None)), None)
        else:
            return kind
