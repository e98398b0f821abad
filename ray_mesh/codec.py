"""Frozen dataclasses to and from msgpack: one strict rule for the wire and for compiled configuration.

A dataclass travels as a map from field name to value, in field order, so equal objects are equal
bytes. Reading is strict: an unknown field, a missing field without default, or a value of another
type is an error, never a guess. Supported field types: bool, int, float, str, bytes, ``X | None``,
``Literal``, ``tuple[X, ...]``, ``tuple[X, Y]``, ``dict[str, X]`` and dataclasses of these.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from operator import attrgetter, itemgetter
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgpack

from ray_mesh.errors import PeerError

T = TypeVar("T")
_LATER = "later"
_SCALARS = (bool, int, str, bytes)
Reader = Callable[[Any], Any]


def later(default: T) -> T:
    """A field that came in a later version of its class. It travels only when it is not the default, so
    that a reader of before goes on reading what it can understand."""
    return dataclasses.field(default=default, metadata={_LATER: True})


def pack(value: object) -> bytes:
    """Encode a dataclass (or a tree of supported values); equal values give equal bytes."""
    if not dataclasses.is_dataclass(value):
        value = _plain(value)
    return msgpack.packb(value, default=_fields, use_bin_type=True)  # type: ignore[no-any-return]


def unpack(cls: type[T], raw: bytes) -> T:
    """Decode bytes that :func:`pack` made from a ``cls``.

    Raises:
        PeerError: the bytes are not msgpack, or do not have the shape of ``cls``.
    """
    try:
        plain = msgpack.unpackb(raw, raw=False, strict_map_key=True)
    except (ValueError, msgpack.UnpackException) as error:
        raise PeerError(f"{cls.__name__}: not a msgpack value: {error}") from error
    return from_plain(cls, plain)


def from_plain(cls: type[T], plain: object) -> T:
    """Build a ``cls`` from maps, lists and scalars.

    Raises:
        PeerError: the value does not have the shape of ``cls``.
    """
    try:
        return _reader(cls)(plain)  # type: ignore[arg-type,no-any-return]
    except (TypeError, ValueError, KeyError) as error:
        raise PeerError(f"{cls.__name__}: {error}") from error


def _fields(value: Any) -> dict[str, Any]:
    """One level of a dataclass; msgpack itself walks the rest, which is what makes it fast."""
    plan = _field_plan(type(value))  # type: ignore[arg-type]
    fields = dict(zip(plan.names, plan.read(value), strict=True))
    for name in plan.with_maps:
        fields[name] = _plain(fields[name])
    for name, has_map, default in plan.added:
        if (item := getattr(value, name)) != default:
            fields[name] = _plain(item) if has_map else item
    return fields


@dataclasses.dataclass(frozen=True, slots=True)
class _Plan:
    """How the fields of a class are read: ``with_maps`` are those with maps in them, which have to be sorted,
    ``added`` those that came later, with their defaults."""

    names: tuple[str, ...]
    read: Callable[[Any], tuple[Any, ...]]
    with_maps: tuple[str, ...]
    added: tuple[tuple[str, bool, Any], ...]


@cache
def _field_plan(cls: type) -> _Plan:
    if not dataclasses.is_dataclass(cls):
        raise TypeError(f"{cls!r} cannot be encoded")
    hints = get_type_hints(cls)
    fields = dataclasses.fields(cls)
    names = tuple(one.name for one in fields if _LATER not in one.metadata)
    added = (one for one in fields if _LATER in one.metadata)
    return _Plan(
        names,
        _reads(names),
        tuple(name for name in names if _has_map(hints[name])),
        tuple((one.name, _has_map(hints[one.name]), one.default) for one in added),
    )


def _reads(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    return lambda value: tuple(getattr(value, name) for name in names)


def _has_map(kind: Any) -> bool:
    return get_origin(kind) is dict or any(_has_map(arg) for arg in get_args(kind))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(item) for name, item in _fields(value).items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(value[key]) for key in sorted(value)}
    return value


@cache
def _reader(kind: Any) -> Reader:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _dataclass_reader(kind)
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _optional_reader(kind, args)
    if origin is Literal:
        return _literal_reader(args)
    if origin is tuple:
        return _tuple_reader(args)
    if origin is dict:
        return _dict_reader(args[1])
    if kind is float:
        return _float
    if kind in _SCALARS:
        return _scalar_reader(kind)
    raise TypeError(f"{kind!r} cannot be encoded")


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"expected a number, got {value!r}")
    return float(value)


def _scalar_reader(kind: type) -> Reader:
    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise TypeError(f"expected {kind.__name__}, got {value!r}")
        return value

    return read


def _optional_reader(kind: Any, args: tuple[Any, ...]) -> Reader:
    inner = [arg for arg in args if arg is not type(None)]
    if len(inner) != 1 or len(args) != 2:
        raise TypeError(f"{kind!r} cannot be encoded: only X | None")
    read_inner = _reader(inner[0])
    return lambda value: None if value is None else read_inner(value)


def _literal_reader(allowed: tuple[Any, ...]) -> Reader:
    def read(value: Any) -> Any:
        if value not in allowed:
            raise ValueError(f"expected one of {allowed}, got {value!r}")
        return value

    return read


def _tuple_reader(args: tuple[Any, ...]) -> Reader:
    if len(args) == 2 and args[1] is Ellipsis:
        read_item = _reader(args[0])

        def read_many(value: Any) -> Any:
            if not isinstance(value, list):
                raise TypeError(f"expected a list, got {value!r}")
            return tuple([read_item(item) for item in value])

        return read_many
    if all(arg in _SCALARS for arg in args):
        return _scalars_reader(args)
    readers = [_reader(arg) for arg in args]

    def read_fixed(value: Any) -> Any:
        if not isinstance(value, list) or len(value) != len(readers):
            raise TypeError(f"expected a list of {len(readers)}, got {value!r}")
        return tuple([read(item) for read, item in zip(readers, value, strict=True)])

    return read_fixed


def _scalars_reader(kinds: tuple[Any, ...]) -> Reader:
    """Pairs such as labels and buckets are most of what is read, so they are read in one step."""

    def read(value: Any) -> Any:
        if not isinstance(value, list) or tuple(map(type, value)) != kinds:
            raise TypeError(f"expected {[kind.__name__ for kind in kinds]}, got {value!r}")
        return tuple(value)

    return read


def _dict_reader(item: Any) -> Reader:
    read_item = _reader(item)

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise TypeError(f"expected a map, got {value!r}")
        return {key: read_item(inner) for key, inner in value.items()}

    return read


def _dataclass_reader(cls: type) -> Reader:
    """A value with all the fields that are always written, each of its scalars of its type, is read in a few
    steps for all of them together; everything else field by field, which says what is wrong."""
    hints = get_type_hints(cls)
    fields = dataclasses.fields(cls)
    read_each = _field_by_field(cls, {field.name: _reader(hints[field.name]) for field in fields})
    written = [field.name for field in fields if _LATER not in field.metadata]
    scalars = [name for name in written if hints[name] in (*_SCALARS, float)]
    kinds, pick = tuple(hints[name] for name in scalars), _items(scalars)
    others = [(field.name, hints[field.name]) for field in fields if field.name not in scalars]
    many = [(name, _reader(hint)) for name, hint in others if _is_tuple(hint)]
    rest = [(name, _reader(hint)) for name, hint in others if not _is_tuple(hint)]

    def read(value: Any) -> Any:
        try:
            fits = type(value) is dict and tuple(map(type, pick(value))) == kinds
        except KeyError:
            fits = False
        if not fits:
            return read_each(value)
        found = value.copy()
        for name, read_many in many:
            if name in value:
                item = value[name]
                found[name] = () if item == [] else read_many(item)
        for name, read_one in rest:
            if name in value:
                found[name] = read_one(value[name])
        try:
            return cls(**found)
        except TypeError:  # a field too many, or too few
            return read_each(value)

    return read


def _field_by_field(cls: type, readers: Mapping[str, Reader]) -> Reader:
    required = {
        field.name
        for field in dataclasses.fields(cls)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise TypeError(f"expected a map, got {value!r}")
        unknown = value.keys() - readers.keys()
        missing = required - value.keys()
        if unknown or missing:
            raise KeyError(f"unknown fields {sorted(unknown)}, missing fields {sorted(missing)}")
        return cls(**{name: readers[name](inner) for name, inner in value.items()})

    return read


def _is_tuple(hint: Any) -> bool:
    return get_origin(hint) is tuple and get_args(hint)[-1] is Ellipsis


def _items(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) > 1:
        return itemgetter(*names)
    return lambda value: tuple(value[name] for name in names)
