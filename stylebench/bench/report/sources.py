"""The records behind the page: machine, software, code, and how each time was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from stylebench.bench.records.record import Record, Timing
from stylebench.bench.report.numbers import percent, seconds, si

# The last word of a field's name -> the unit, and what one of the field's is of it.
_UNITS = {"bytes": ("B", 1), "w": ("W", 1), "mhz": ("Hz", 1e6), "c": ("\N{DEGREE SIGN}C", 1)}


def facts(record: Record) -> dict[str, dict[str, str]]:
    """Heading -> name -> what the record tells, less the fields that are empty."""
    code = record.code
    run = {
        "started": record.started,
        "took": seconds(record.seconds),
        "commit": code.commit,
        "changes": "uncommitted" if code.dirty else None,
        "sources": f"sha256 {code.sha256[:16]}",
        "schema": record.version,
    }
    machine = {name: value for name, value in asdict(record.machine).items() if name != "slug"}
    return {
        "Machine": _spelled(machine),
        "Software": _spelled(asdict(record.software)),
        "Run": _spelled(run),
    }


def _spelled(fields: Mapping[str, Any]) -> dict[str, str]:
    words = {}
    for name, value in fields.items():
        *name_words, unit = name.split("_")
        if isinstance(value, Mapping):  # a state
            words[name] = ", ".join(f"{key} {text}" for key, text in _spelled(value).items())
        elif isinstance(value, list):
            words[name] = " ".join(value)
        elif unit in _UNITS and value is not None:
            symbol, scale = _UNITS[unit]
            words[" ".join(name_words)] = si(value * scale, symbol)
        elif value is not None:
            words[name] = f"{value:.4g}" if isinstance(value, float) else str(value)
    return {name: text for name, text in words.items() if text}


def timing_words(timing: Timing) -> str:
    """The median and how it was measured."""
    quartiles = f"quartiles {seconds(timing.q1)} to {seconds(timing.q3)}"
    each = f" of {timing.per_sample}" if timing.per_sample > 1 else ""
    words = [
        f"{seconds(timing.median)} ({quartiles})",
        f"\N{PLUS-MINUS SIGN} {percent(timing.spread)}",
        f"{len(timing.samples)} samples{each} by {timing.clock}",
    ]
    return ", ".join(words + [f"{len(timing.disturbed)} disturbed"] * bool(timing.disturbed))
