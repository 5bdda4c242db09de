"""The JSON schema of a record, generated from its dataclasses.

``python -m stylebench.bench.records.schema`` writes ``schema.json`` anew.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from stylebench.bench.records.record import TIME_VALUES, TIMES, Record
from stylebench.files.from_dict import field_types
from stylebench.files.writing import atomic_path

PUBLISHED = Path(__file__).with_name("schema.json")

_SCALARS = {
    str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null",
}  # fmt: skip
_PASSED = {"minItems": 1, "items": {"properties": {"passed": {"const": True}}}}
_PROVEN = {
    "required": ["parity"],
    "properties": {"parity": {"type": "object", "properties": {"checks": _PASSED}}},
}


def schema() -> dict[str, Any]:
    """The JSON schema of a record, as published in ``schema.json``.

    It also says that no time stands without a proof, and that no check passes without a value. A
    schema cannot say that a value within its limit passes and no other does: ``record`` checks it.
    """
    definitions: dict[str, Any] = {}
    _of(Record, definitions)
    definitions["Case"] |= {"if": {"anyOf": _holds_a_time()}, "then": _PROVEN}
    definitions["RecordedCheck"] |= {
        "if": {"properties": {"passed": {"const": True}}},
        "then": {"properties": {"value": {"type": "number"}}},
    }
    record = definitions.pop("Record")
    draft = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": draft, "$defs": definitions, **record}


def _of(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of an annotation; dataclasses go into ``definitions`` and are referred to."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return {"anyOf": [_of(member, definitions) for member in arguments]}
    if origin is list:
        return {"type": "array", "items": _of(arguments[0], definitions)}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _of(arguments[1], definitions)}
    if origin is Literal:
        return {"type": "string", "enum": list(arguments)}
    if kind in _SCALARS:
        return {"type": _SCALARS[kind]}
    name, hints = kind.__name__, field_types(kind)
    if name not in definitions:
        definitions[name] = {
            "title": name,
            "description": inspect.getdoc(kind),
            "type": "object",
            "properties": {key: _of(hint, definitions) for key, (hint, _) in hints.items()},
            "required": [key for key, (_, required) in hints.items() if required],
            "additionalProperties": False,
        }
    return {"$ref": f"#/$defs/{name}"}


def _holds_a_time() -> list[dict[str, Any]]:
    """Schemas of a case, each of which only one with some time in it meets."""
    named = {"propertyNames": {"not": {"pattern": TIME_VALUES.pattern}}}
    some = {"parts": {"minProperties": 1}, "curve": {"minItems": 1}}
    times = {name: some.get(name, {"not": {"type": "null"}}) for name in TIMES}
    return [
        {"required": [name], "properties": {name: rule}}
        for name, rule in {**times, "values": {"not": named}}.items()
    ]


def main() -> None:
    """Write ``schema.json``."""
    with atomic_path(PUBLISHED) as partial:
        partial.write_text(json.dumps(schema(), indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
