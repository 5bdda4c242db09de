"""A record from its own JSON without a validator, for machines that have none.

For files that this program wrote itself moments ago, to go on where it stopped; whatever else is
read goes through ``store.read_record``, which checks it.
"""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from stylebench.bench.records.record import VERSION, Record


def unfinished(path: Path) -> Record | None:
    """The record at ``path``; None where there is none, or none that this version wrote."""
    try:
        data = json.loads(path.read_text("utf-8"))
        return build(Record, data) if data["version"] == VERSION else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def build(kind: Any, data: Any) -> Any:
    """``data``, as ``asdict`` and JSON left it, as an instance of the annotation ``kind``."""
    if data is None:
        return None
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        given = {f.name: build(hints[f.name], data[f.name]) for f in fields(kind) if f.name in data}
        return kind(**given)  # type: ignore[operator]
    if get_origin(kind) is list:
        return [build(get_args(kind)[0], each) for each in data]
    nested = [each for each in get_args(kind) if is_dataclass(each)]  # X | None
    return build(nested[0], data) if nested else data
