"""What the models of all kinds are made of.

A model has every field of its kind's published schema, under its exact name, so that three cases
stay apart: a field that is honoured, a valid field that is not honoured yet (:data:`LATER`,
:class:`Only`), and a misspelled one. Checks that need more than one field are :meth:`Model.flaws`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetJsonSchemaHandler, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue

from ray_mesh.resources.source import Path


@dataclass(frozen=True, slots=True)
class Later:
    """Marks a valid field that this build does not honour: setting it is refused by name."""

    reason: str = ""

    def __get_pydantic_json_schema__(self, core: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """How a JSON schema tells it."""
        reason = f": {self.reason}" if self.reason else ""
        return {**handler(core), "description": f"Valid, not honoured by this build{reason}."}


@dataclass(frozen=True, slots=True)
class Only:
    """Marks a field (or the items of a list) of which this build honours these values only."""

    values: tuple[str, ...]
    reason: str = ""

    def __get_pydantic_json_schema__(self, core: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """How a JSON schema tells it."""
        reason = f": {self.reason}" if self.reason else ""
        return {**handler(core), "description": f"Honoured by this build: {', '.join(self.values)}{reason}."}


LATER = Later()


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong below a model. ``later`` means valid, but not honoured by this build."""

    path: Path
    message: str
    later: bool = False


class Model(BaseModel):
    """Base of all models: exact camelCase names, no coercion, no unknown fields, immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", strict=True, frozen=True, hide_input_in_errors=True
    )

    def flaws(self) -> Iterator[Flaw]:
        """What the types of the fields cannot express."""
        return iter(())

    def placed_flaws(self, namespace: str) -> Iterator[Flaw]:
        """What is wrong with the spec of an object in this namespace."""
        return iter(())


_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ms|us|µs|ns|h|m|s)"
_DURATION = re.compile(f"(?:{_PART})+")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(rf"{_LABEL.pattern}(\.{_LABEL.pattern})*")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_LABEL_NAME = re.compile(rf"([A-Za-z0-9.-]{{1,253}}/)?{_QUALIFIED.pattern}")


def seconds(duration: str) -> float:
    """A duration such as ``7s``, ``100ms`` or ``1h30m`` in seconds (Go's syntax, as Istio's).

    Raises:
        ValueError: not a duration.
    """
    if not _DURATION.fullmatch(duration):
        raise ValueError("not a duration: write a number with a unit, such as 7s, 100ms or 1h30m")
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, duration))


def _duration(text: str) -> str:
    length = seconds(text)
    if length < 0.001:
        raise ValueError("a duration is at least 1ms")
    if abs(length * 1000 - round(length * 1000)) > 1e-6:
        raise ValueError("too fine: durations are in whole milliseconds")
    return text


def is_label(name: str) -> bool:
    """Whether this is a DNS label (RFC 1123): at most 63 of ``a-z 0-9 -``."""
    return bool(_LABEL.fullmatch(name))


def is_subdomain(name: str) -> bool:
    """Whether this is a DNS name (RFC 1123) in lower case, at most 253 characters."""
    return len(name) <= 253 and all(is_label(part) for part in name.split("."))


def is_label_name(text: str) -> bool:
    """Whether this may be the name of a label: ``name``, or ``dns.prefix/name``."""
    prefix, slash, name = text.rpartition("/")
    return bool(_QUALIFIED.fullmatch(name)) and (not slash or is_subdomain(prefix.lower()))


def _label_name(text: str) -> str:
    if not is_label_name(text):
        raise ValueError(
            "not the name of a label: at most 63 of A-Z a-z 0-9 - _ ., behind prefix/ if need be"
        )
    return text


def _label(text: str) -> str:
    if not is_label(text):
        raise ValueError("not a DNS label: use at most 63 of a-z 0-9 -, starting and ending with a-z 0-9")
    return text


def _subdomain(text: str) -> str:
    if not is_subdomain(text):
        raise ValueError("not a DNS name: use labels of a-z 0-9 - separated by dots")
    return text


def _written(pattern: re.Pattern[str], example: str) -> WithJsonSchema:
    """What editors are told of a text whose form a function checks."""
    return WithJsonSchema({"type": "string", "pattern": f"^(?:{pattern.pattern})$", "examples": [example]})


Duration = Annotated[str, AfterValidator(_duration), _written(_DURATION, "7s")]
DnsLabel = Annotated[str, AfterValidator(_label), _written(_LABEL, "reviews-v1")]
DnsName = Annotated[str, AfterValidator(_subdomain), _written(_SUBDOMAIN, "reviews.prod")]
LabelName = Annotated[str, AfterValidator(_label_name), _written(_LABEL_NAME, "app.kubernetes.io/name")]
NonEmpty = Annotated[str, Field(min_length=1)]
Int32 = Annotated[int, Field(ge=-(2**31), lt=2**31)]
UInt32 = Annotated[int, Field(ge=0, lt=2**32)]
UInt64 = Annotated[int, Field(ge=0, lt=2**64)]
Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
WholePercent = Annotated[int, Field(ge=0, le=100)]
Limit = Annotated[int, Field(ge=0, lt=2**31)]
PortNumber = Annotated[int, Field(ge=1, le=65535)]
LabelValue = Annotated[str, Field(max_length=63)]
LabelText = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$")]


class Percentage(Model):
    """Istio's Percent: 0 to 100."""

    value: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 0.0


def is_port(text: str) -> bool:
    """Whether a text is the number of a port, 1 to 65535."""
    return text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535


class LabelSelector(Model):
    """Workloads by labels, as the networking kinds write it; without labels, all of the namespace."""

    labels: Annotated[dict[str, LabelValue], Field(max_length=256)] = {}

    def flaws(self) -> Iterator[Flaw]:
        for name, value in self.labels.items():
            if not name:
                yield Flaw(("labels",), "a label has a name")
            elif "*" in value or "*" in name:
                yield Flaw(("labels", name), "wildcard is not supported in selector")


class InjectedShare(Percentage):
    """A share of requests: 0, or at least one in a million."""

    def flaws(self) -> Iterator[Flaw]:
        if 0 < self.value < 0.0001:
            yield Flaw(("value",), f"{self.value} is neither 0 nor in [0.0001, 100]")


class PortSelector(Model):
    """A port by number."""

    number: Annotated[int, Field(ge=0, le=65535)] = 0


class WorkloadSelector(Model):
    """Workloads by labels; without labels, all of them."""

    match_labels: Annotated[dict[str, LabelValue], Field(max_length=4096)] = {}

    def flaws(self) -> Iterator[Flaw]:
        for name, value in self.match_labels.items():
            if not name:
                yield Flaw(("matchLabels",), "a label has a name")
            elif "*" in name or "*" in value:
                yield Flaw(("matchLabels", name), "labels are compared exactly: * is not a wildcard here")
