"""YAML text to plain values with positions, strictly and within bounds.

What YAML allows and configuration never needs is refused: custom tags, duplicate keys, numbers that
readers disagree about (octal, sexagesimal, infinity), anchors that contain themselves. The bounds
hold before any tree is built, so that a hostile text costs no more than reading it once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from ray_mesh import addresses
from ray_mesh.errors import ConfigError

MAX_BYTES = 4 << 20
MAX_DOCUMENTS = 10_000
MAX_DEPTH = 32
MAX_NODES = 300_000
"""Values in one text, counted after anchors are expanded."""

MAX_INNER = 64 << 10
"""Characters of YAML inside of a value, such as that of an annotation."""

MAX_ADDRESSES = 8
"""Addresses in one text that YAML takes for maps; each costs reading the text again."""

Path: TypeAlias = tuple[str | int, ...]
"""Steps from the root of a document to a value: field names and list positions."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TEXTS: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_TAG = "tag:yaml.org,2002:"
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]{0,18})")
_FLOAT = re.compile(r"[-+]?[0-9]{1,20}\.[0-9]{0,20}([eE][-+]?[0-9]{1,3})?")
_ADDRESS = frozenset("0123456789abcdefABCDEF:.")
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def show(path: Path) -> str:
    """A path as people write it: ``spec.http[0].match``, ``metadata.labels["a.b/c"]``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN_KEY.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{json.dumps(step)}]"
    return text


@dataclass(frozen=True, slots=True)
class Positions:
    """Where the values of one document stand in its source."""

    source: str
    marks: Mapping[Path, tuple[int, int]] = field(default_factory=dict)

    def at(self, path: Path) -> str:
        """``file:line:column`` of a path, or of the nearest value that contains it."""
        for length in range(len(path), -1, -1):
            mark = self.marks.get(path[:length])
            if mark:
                return f"{self.source}:{mark[0]}:{mark[1]}"
        return self.source


@dataclass(frozen=True, slots=True)
class Manifest:
    """One document as it was written: maps, lists and scalars, and where they stand."""

    value: dict[str, Any]
    positions: Positions


@dataclass(slots=True)
class Counted:
    """How many values were read of a text that is read in parts."""

    values: int = 0


def read_yaml(text: str, source: str, first_line: int = 1, counted: Counted | None = None) -> list[Manifest]:
    """The documents of a YAML text; empty ones are skipped. ``first_line`` is where it begins in its source,
    ``counted`` what was read of that before.

    Raises:
        ConfigError: not YAML, or outside the bounds and rules of this module.
    """
    _check_size(text, source)
    try:
        roots = _compose(text, source, first_line)
    except yaml.MarkedYAMLError as error:
        where = _where(source, error.problem_mark, first_line) if error.problem_mark else source
        raise ConfigError(f"{where}: not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not YAML: {error}") from error
    reader = _Reader(source, first_line, counted or Counted())
    manifests = [reader.manifest(root) for root in roots if root is not None]
    return [manifest for manifest in manifests if manifest is not None]


def _compose(text: str, source: str, first_line: int) -> list[yaml.Node | None]:
    """The roots of a text. An IPv6 address such as ``[2001:db8::]`` is one value, as kubectl reads it, though
    to YAML 1.1 it is the start of a map."""
    for _ in range(MAX_ADDRESSES):
        try:
            _check_events(text, source, first_line)
            return list(yaml.compose_all(text, Loader=_LOADER))
        except yaml.MarkedYAMLError as error:
            quoted = _quoted(text, error.problem_mark.index) if error.problem_mark else text
            if quoted == text:
                raise
            text = quoted
    raise ConfigError(f"{source}: more than {MAX_ADDRESSES} addresses that end in :: are not in quotes")


def _quoted(text: str, index: int) -> str:
    """The text with an address in quotes that ends in ``::`` where reading it stopped; else as it is."""
    start = index
    while start and text[start - 1] in _ADDRESS:
        start -= 1
    end = start
    while end < len(text) and text[end] in _ADDRESS:
        end += 1
    address = text[start:end]
    if not address.endswith("::") or addresses.parse(address) is None:
        return text
    return f"{text[:start]}'{address}'{text[end:]}"


def read_json(text: str, source: str) -> Manifest:
    """One document from JSON, under the same rules.

    Raises:
        ConfigError: not a JSON object, a duplicate key, a number that is not finite, or too large.
    """
    _check_size(text, source)
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{source}: a document is a map, not {value!r:.40}")
    return Manifest(value, Positions(source))


def read_inner(text: str, where: str) -> Any:
    """The one value of YAML inside of another value: maps, lists, and scalars as they are written.

    Raises:
        ConfigError: not YAML, an anchor, or outside the bounds of this module.
    """
    if len(text) > MAX_INNER:
        raise ConfigError(f"{where}: longer than {MAX_INNER} characters")
    try:
        _check_events(text, where, 1)
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=_LOADER)):
            raise ConfigError(f"{where}: refers to an anchor")
        return yaml.load(text, Loader=_TEXTS)  # noqa: S506 - text only, no tags
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not YAML: {error}") from error


def _check_size(text: str, source: str) -> None:
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise ConfigError(f"{source}: larger than {MAX_BYTES} bytes: split it")


def _check_events(text: str, source: str, first_line: int) -> None:
    depth = documents = 0
    for nodes, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
        if depth > MAX_DEPTH:
            raise ConfigError(
                f"{_where(source, event.start_mark, first_line)}: nested deeper than {MAX_DEPTH}"
            )
        if nodes > 2 * MAX_NODES or documents > MAX_DOCUMENTS:
            raise ConfigError(
                f"{_where(source, event.start_mark, first_line)}: too many values or documents: split it"
            )


def _where(source: str, mark: Any, first_line: int) -> str:
    return f"{source}:{mark.line + first_line}:{mark.column + 1}"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"duplicate key {twice!r}")
    return mapping


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


class _Reader:
    """Turns composed nodes into values; counts them over all documents of a text."""

    def __init__(self, source: str, first_line: int, counted: Counted) -> None:
        self._source = source
        self._first_line = first_line
        self._counted = counted
        self._open: set[int] = set()
        self._marks: dict[Path, tuple[int, int]] = {}

    def manifest(self, root: yaml.Node) -> Manifest | None:
        self._marks = {(): self._at(root)}
        value = self._value(root, ())
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._error(root, "a document is a map with apiVersion, kind, metadata and spec")
        return Manifest(value, Positions(self._source, self._marks))

    def _value(self, node: yaml.Node, path: Path) -> Any:
        self._counted.values += 1
        if self._counted.values > MAX_NODES:
            raise self._error(node, f"more than {MAX_NODES} values after anchors are expanded")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if id(node) in self._open:
            raise self._error(node, "an anchor contains itself")
        self._open.add(id(node))
        try:
            return self._map(node, path) if isinstance(node, yaml.MappingNode) else self._list(node, path)
        finally:
            self._open.discard(id(node))

    def _list(self, node: yaml.Node, path: Path) -> list[Any]:
        if node.tag != f"{_TAG}seq":
            raise self._error(node, f"tag {node.tag} is not allowed")
        items = []
        for index, child in enumerate(node.value):
            self._mark(child, (*path, index))
            items.append(self._value(child, (*path, index)))
        return items

    def _map(self, node: yaml.Node, path: Path) -> dict[str, Any]:
        if node.tag != f"{_TAG}map":
            raise self._error(node, f"tag {node.tag} is not allowed")
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                for source in self._merged(value_node, path):
                    merged = {**source, **merged}
                continue
            key = self._key(key_node)
            if key in own:
                raise self._error(key_node, f"duplicate key {key!r}")
            self._mark(key_node, (*path, key))
            own[key] = self._value(value_node, (*path, key))
        return {**merged, **own}

    def _merged(self, node: yaml.Node, path: Path) -> Iterator[dict[str, Any]]:
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for source in sources:
            value = self._value(source, path)
            if not isinstance(value, dict):
                raise self._error(source, "<< merges a map or a list of maps")
            yield value

    def _key(self, node: yaml.Node) -> str:
        value = self._scalar(node) if isinstance(node, yaml.ScalarNode) else None
        if isinstance(value, str):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        raise self._error(node, "a key is text: quote it")

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text: str = node.value
        match node.tag.removeprefix(_TAG):
            case "str" | "timestamp" | "value":
                return text
            case "null":
                return None
            case "bool":
                return text.lower() in ("yes", "true", "on")
            case "int" if _DECIMAL.fullmatch(text):
                return int(text)
            case "float" if _FLOAT.fullmatch(text):
                return float(text)
            case "int" | "float":
                raise self._error(node, f"{text:.40} is read differently by different programs: quote it")
        raise self._error(node, f"tag {node.tag} is not allowed")

    def _mark(self, node: yaml.Node, path: Path) -> None:
        self._marks[path] = self._at(node)

    def _at(self, node: yaml.Node) -> tuple[int, int]:
        return node.start_mark.line + self._first_line, node.start_mark.column + 1

    def _error(self, node: yaml.Node, message: str) -> ConfigError:
        return ConfigError(f"{_where(self._source, node.start_mark, self._first_line)}: {message}")
