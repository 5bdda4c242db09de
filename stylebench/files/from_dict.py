"""A dataclass from parsed JSON, with the type of every field checked.

The standard library suffices, so a record or a checkpoint is read, checked and resumed by the same
code on every machine, also on a GPU lent for minutes with nothing installed but torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from math import isfinite
from reprlib import Repr
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_LARGEST = 2**63 - 1  # of an integer: no field counts further, and arrays hold no larger one
_LONGEST = 10_000  # characters of a text
_WHOLE = "the whole"  # the path of what is in no field
_SHOWN = 80  # characters of a value or a name in a message
_BRIEF = Repr()
# What JSON can spell and no file, page or terminal can hold: lone surrogates, control characters.
_UNWRITABLE = re.compile("[\\ud800-\\udfff\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f]")


class FieldError(ValueError):
    """A value that its field cannot hold; the message begins with the field's path."""


def from_dict(kind: Any, data: Any, path: str = "") -> Any:
    """``data``, as ``json.loads`` returns it, as an instance of the annotation ``kind``.

    Args:
        kind: a dataclass, ``list[X]``, ``Mapping[str, X]``, ``Literal``, a union, str, int,
            float, bool, or Any. An integer is accepted for a float; NaN and infinity are not, nor
            integers beyond 64 bits, texts of more than 10,000 characters or with control
            characters.
        data: its value.
        path: of the field, for messages: ``cases.0.timing``.

    Raises:
        FieldError: a field is missing, unknown, of another type or range, or a dataclass refuses
            it.
    """
    if kind is Any:
        return data
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        members = [member for member in arguments if member is not NoneType]
        if data is None and len(members) < len(arguments):
            return None
        return from_dict(next((m for m in members if type(data) is m), members[0]), data, path)
    if isinstance(kind, type) and is_dataclass(kind):
        return _dataclass(kind, data, path)
    if origin is list:
        items = _expect(list, data, path)
        return [from_dict(arguments[0], item, _at(path, i)) for i, item in enumerate(items)]
    if origin is Mapping:
        values = _expect(dict, data, path).items()
        return {
            _writable(name, path): from_dict(arguments[1], value, _at(path, name))
            for name, value in values
        }
    if origin is Literal:
        if data not in arguments:
            choices = ", ".join(map(repr, arguments))
            raise FieldError(f"{path}: {_shown(data)} is none of {choices}")
        return data
    if kind is float:
        number = float(_integer(data, path)) if type(data) is int else _expect(float, data, path)
        if not isfinite(number):
            raise FieldError(f"{path}: {number} is not a finite number")
        return number
    _expect(kind, data, path)
    if kind is int:
        return _integer(data, path)
    return _writable(data, path) if kind is str else data


def _integer(number: int, path: str) -> int:
    if abs(number) > _LARGEST:
        raise FieldError(f"{path}: is an integer of more than 64 bits")
    return number


def _writable(text: str, path: str) -> str:
    if len(text) > _LONGEST:
        raise FieldError(f"{path}: a text of {len(text)} characters, expected {_LONGEST} at most")
    if found := _UNWRITABLE.search(text):
        raise FieldError(f"{path}: {_shown(text)} has the character {found[0]!r}, which is no text")
    return text


def _dataclass(kind: type, data: Any, path: str) -> Any:
    known = field_types(kind)
    for name in _expect(dict, data, path):
        if name not in known:
            raise FieldError(f"{_at(path, name)}: is no field of a {kind.__name__}")
    for name, (_, required) in known.items():
        if required and name not in data:
            raise FieldError(f"{_at(path, name)}: is missing")
    values = {name: from_dict(known[name][0], data[name], _at(path, name)) for name in data}
    try:
        return kind(**values)
    except ValueError as error:
        raise FieldError(f"{path or _WHOLE}: {error}") from error


@cache
def field_types(kind: type) -> dict[str, tuple[Any, bool]]:
    """Name -> annotation of each field of a dataclass, and whether it has no default."""
    hints = get_type_hints(kind)
    return {field.name: (hints[field.name], _required(field)) for field in fields(kind)}


def _required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _expect(kind: type, data: Any, path: str) -> Any:
    if type(data) is not kind:  # exactly: True is no int
        value = f"{type(data).__name__} {_shown(data)}"
        raise FieldError(f"{path or _WHOLE}: expected {kind.__name__}, found {value}")
    return data


def _at(path: str, name: object) -> str:
    text = str(name) if str(name).isprintable() else repr(name)
    return f"{path}.{text[:_SHOWN]}" if path else text[:_SHOWN]


def _shown(data: Any) -> str:
    """``data`` in a message: the beginning of a long value, and what cannot be printed escaped."""
    return (repr(data[:_SHOWN]) if isinstance(data, str) else _BRIEF.repr(data))[:_SHOWN]
