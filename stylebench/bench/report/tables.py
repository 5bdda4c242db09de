"""Tables of the page: columns of a frame as cells that sort; columns that nothing fills vanish."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any, NamedTuple

import pandas as pd

from stylebench.bench.records.record import Case, Record
from stylebench.bench.report.numbers import figure


class Cell(NamedTuple):
    """One cell.

    Attributes:
        text: shown.
        sort: the number it sorts by; None: its text.
        anchor: on the page, that it links to.
        tone: ``good``, ``bad``, ``soft``, the name of an engine, or nothing.
    """

    text: str = ""
    sort: float | None = None
    anchor: str = ""
    tone: str = ""


class Column(NamedTuple):
    """A heading, the frame's column below it, and how a number is spelled.

    Attributes:
        title: the heading.
        name: of a column of texts, of cells, or of numbers.
        spell: makes a number's text; None: the column holds texts or cells.
        sort: the frame's column of numbers that texts sort by; empty: they sort as texts.
    """

    title: str
    name: str
    spell: Callable[[float], str] | None = None
    sort: str = ""


class Table(NamedTuple):
    """A table with its caption; ``columns`` are (title, whether numeric)."""

    caption: str
    columns: list[tuple[str, bool]]
    rows: list[tuple[Cell, ...]]


def table(caption: str, columns: Sequence[Column], frame: pd.DataFrame) -> list[Table]:
    """``frame`` under ``columns``, less those that are empty; nothing where it has no rows."""
    if frame.empty:
        return []
    cells = {column: _cells(column, frame) for column in columns}
    filled = {column: found for column, found in cells.items() if any(cell.text for cell in found)}
    titles = [(column.title, bool(column.spell or column.sort)) for column in filled]
    return [Table(caption, titles, list(zip(*filled.values(), strict=True)))]


def _cells(column: Column, frame: pd.DataFrame) -> list[Cell]:
    values: Sequence[Any] = list(frame[column.name])
    if column.name in ("engine", "implementation"):
        cases = frame["case"] if column.name == "engine" else [""] * len(frame)
        return [Cell(name or case, tone=name) for name, case in zip(values, cases, strict=True)]
    if column.sort:
        keys = [key if isfinite(key) else None for key in frame[column.sort]]
        return [Cell(text, key) for text, key in zip(values, keys, strict=True)]
    if column.spell:
        spell = column.spell
        return [Cell(spell(value), value) if isfinite(value) else Cell() for value in values]
    return [value if isinstance(value, Cell) else Cell(value) for value in values]


def verdict(case: Case) -> Cell:
    """Whether the output is right, in words, or why there is none."""
    parity = case.parity
    if parity and not parity.passed:
        failing = next((check for check in parity.checks if not check.passed), None)
        if failing is None:
            return Cell("nothing compared", tone="bad")
        value = "not finite" if failing.value is None else figure(failing.value)
        return Cell(f"failed: {failing.what} {value} > {figure(failing.limit)}", tone="bad")
    if case.status != "ok":
        return Cell(f"{case.status}: {case.note}" if case.note else case.status, tone="bad")
    if parity:
        count = len(parity.checks)
        return Cell(f"passed, {count} check{'s' * (count > 1)}", tone="good")
    return Cell("not compared", tone="soft")


def commit(record: Record) -> str:
    """Seven digits, ``+ changes`` where the tree was dirty; empty where there was no git."""
    if not record.code.commit:
        return ""
    return record.code.commit[:7] + (" + changes" if record.code.dirty else "")
