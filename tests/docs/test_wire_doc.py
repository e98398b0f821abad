"""docs/wire.md says what the code does: subjects, buckets, accounts, rights and every field."""

from __future__ import annotations

import dataclasses
import inspect
import re
from functools import cache
from pathlib import Path

import pytest

from ray_mesh.bus import messages, subjects
from ray_mesh.bus.permissions import EXPORTS, ROLES, Permissions, permissions
from ray_mesh.bus.store import HISTORY, bucket_settings
from ray_mesh.telemetry import series

PAGE = (Path(__file__).parents[2] / "docs" / "wire.md").read_text()

SPOKEN = (
    "beacon",
    "lease",
    "ack",
    "role",
    "telemetry",
    "event",
    "csr",
    "quota",
    "reserve",
    "query",
    "control",
)

TYPES = {
    "str": "text",
    "bytes": "binary",
    "int": "int",
    "float": "float",
    "bool": "bool",
    "tuple[str, ...]": "list of text",
    "tuple[bytes, ...]": "list of binary",
    "tuple[tuple[int, int], ...]": "list of [int, int]",
    "dict[str, int]": "map of int",
    "Before | None": "Before, or nil",
    "Parts | None": "Parts, or nil",
}


def described(annotation: object) -> str:
    """A field's type in words that are not Python's."""
    text = str(annotation)
    if text in TYPES:
        return TYPES[text]
    if literal := re.fullmatch(r"Literal\[(.*)\]", text):
        return " or ".join(f"`{value}`" for value in re.findall(r"['\"]([^'\"]+)['\"]", literal[1]))
    if many := re.fullmatch(r"tuple\[(\w+), \.\.\.\]", text):
        return f"list of {many[1]}"
    return text


def placeholders(role: str, *, attested: bool = True) -> Permissions:
    """Permissions with names in angle brackets."""
    allowed = permissions(role, "INSTANCE", node="NODE", attested=attested)

    def named(lists: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(s.replace("INSTANCE", "<instance>").replace("NODE", "<node>") for s in lists)

    return Permissions(named(allowed.publish), named(allowed.subscribe), allowed.account)


@cache
def section(title: str, level: str = "##") -> str:
    """The text under a heading, down to the next of its level or above."""
    found = re.search(rf"^{level} {re.escape(title)}$(.*?)(?=^#{{1,{len(level)}}} |\Z)", PAGE, re.M | re.S)
    assert found, f"docs/wire.md has no heading {level} {title}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of a table, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def payloads() -> dict[str, type]:
    return {
        name: kind
        for module in (messages, series)
        for name, kind in vars(module).items()
        if dataclasses.is_dataclass(kind) and isinstance(kind, type) and kind.__module__ == module.__name__
    }


def template(name: str) -> str:
    function = getattr(subjects, name)
    parameters = inspect.signature(function).parameters
    subject = str(function(*(f"X{parameter}X" for parameter in parameters)))
    return re.sub(r"X(\w+?)X", r"<\1>", subject)


def test_every_subject_is_described() -> None:
    described_subjects = {row[0].strip("`") for row in rows(section("Subjects"))}
    assert described_subjects == {template(name) for name in SPOKEN}


def test_no_subject_was_added_without_a_row() -> None:
    others = {"every", "token", "stream", "stored", "republished", "direct_get", "inbox", "last_token"}
    functions = {
        name
        for name, value in vars(subjects).items()
        if inspect.isfunction(value) and value.__module__ == subjects.__name__
    }
    assert functions == {*SPOKEN, *others}


def test_payloads_of_subjects_exist() -> None:
    for row in rows(section("Subjects")):
        for cell in row[3:5]:
            assert cell.split(",")[0] in {*payloads(), ""}


@pytest.mark.parametrize("name", sorted(payloads()))
def test_every_field_is_described(name: str) -> None:
    table = rows(section(name, "###"))
    fields = [(f"`{field.name}`", described(field.type)) for field in dataclasses.fields(payloads()[name])]
    assert [(row[0], row[1]) for row in table] == fields
    assert all(row[2] for row in table)


def test_no_message_is_described_that_does_not_exist() -> None:
    assert set(re.findall(r"^### (\w+)$", section("Messages"), re.M)) == set(payloads())


def test_the_schema_version() -> None:
    assert f"Schema version: `{messages.VERSION[0]}.{messages.VERSION[1]}`." in PAGE
    assert f"`{messages.SIGNATURE_HEADER}`" in PAGE


def test_buckets() -> None:
    expected = [
        [
            f"`{bucket}`",
            f"`{bucket_settings(bucket, 1)['name']}`",
            f"`{subjects.stored(bucket, '<key>')}`",
            f"`{subjects.republished(bucket, '<key>')}`",
            str(HISTORY[bucket]),
        ]
        for bucket in subjects.BUCKETS
    ]
    assert [[*row[:4], row[5]] for row in rows(section("Buckets"))] == expected
    form = "`$JS.API.DIRECT.GET.<stream>.$KV.<bucket>.<key>`"
    assert form in section("Buckets")
    for bucket in subjects.BUCKETS:
        filled = form.replace("<stream>", subjects.stream(bucket)).replace("<bucket>", bucket)
        assert filled == f"`{subjects.direct_get(bucket, '<key>')}`"


def test_accounts() -> None:
    expected = [
        [account, export.kind, f"`{export.subject}`"] for account in EXPORTS for export in EXPORTS[account]
    ]
    assert rows(section("Accounts")) == expected


@pytest.mark.parametrize("title", [*ROLES, "proxy without certificate"])
def test_permissions(title: str) -> None:
    role, attested = title.split(" ")[0], " " not in title
    expected = placeholders(role, attested=attested)
    publish, subscribe = section(title, "###").split("\nSubscribe:\n")
    assert f"Account `{expected.account}`." in publish
    assert tuple(re.findall(r"^- `(.*)`$", publish, re.M)) == expected.publish
    assert tuple(re.findall(r"^- `(.*)`$", subscribe, re.M)) == expected.subscribe
