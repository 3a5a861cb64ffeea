"""A decoder's config as JSON and back: nested parts, each with the name of its type, since fields may be unions."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from jaxchat.errors import InputError
from jaxchat.models.config import DecoderConfig

Part = TypeVar("Part")
_SCALARS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def to_json(part: Any) -> Any:
    """A part, or a value of one of its fields, as JSON holds it."""
    if is_dataclass(part):
        return {"type": type(part).__name__} | {f.name: to_json(getattr(part, f.name)) for f in fields(part)}
    return [to_json(value) for value in part] if isinstance(part, tuple) else part


def from_json(values: dict[str, Any], where: str) -> DecoderConfig:
    """The config that `to_json` wrote.

    Raises:
        InputError: a field is missing, unknown or holds what it cannot, named with `where`.
    """
    return read_part(values, DecoderConfig, where)


def read_part(values: Any, kind: type[Part], where: str) -> Part:
    """The same for any dataclass of such parts."""
    return _read(values, kind, where)


def _read(value: Any, kind: Any, where: str) -> Any:
    if get_origin(kind) in (Union, UnionType):
        return _read(value, _member(value, get_args(kind), where), where)
    if kind is NoneType:
        return None
    if is_dataclass(kind):
        return _part(value, kind, where)
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise InputError(f"{where} is {value!r}, not a list")
        return tuple(_read(one, get_args(kind)[0], f"{where}[{i}]") for i, one in enumerate(value))
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise InputError(f"{where} is {value!r}; it is one of {', '.join(get_args(kind))}")
        return value
    fits = type(value) is kind or (kind is float and type(value) is int)
    if not fits:
        raise InputError(f"{where} is {value!r}, not {_SCALARS[kind]}")
    return kind(value)


def _member(value: Any, members: tuple[Any, ...], where: str) -> Any:
    """Which member of a union `value` is."""
    if value is None and NoneType in members:
        return NoneType
    parts: dict[str, Any] = {member.__name__: member for member in members if hasattr(member, "__dataclass_fields__")}
    if not parts:
        return next(member for member in members if member is not NoneType)
    name = value.get("type") if isinstance(value, dict) else value
    if name not in parts:
        raise InputError(f"{where} is {name!r}; it is one of {', '.join(parts)}")
    return parts[name]


def _part(value: Any, kind: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise InputError(f"{where} is {value!r}, not an object")
    known = {field.name for field in fields(kind)}
    given = {name: one for name, one in value.items() if name != "type"}
    for name in given:
        if name not in known:
            raise InputError(f"{where}: there is no {name} in {kind.__name__}; it was written by another version")
    missing = sorted(known - given.keys())
    if missing:
        raise InputError(f"{where} is not a whole {kind.__name__} ({missing[0]} is missing)")
    hints = get_type_hints(kind)
    return kind(**{name: _read(one, hints[name], f"{where}: {name}") for name, one in given.items()})
