"""Tables of the page: cells that know how to sort, columns that vanish where nothing fills them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Generic, TypeVar

from stylebench.bench.records.record import Case, Record
from stylebench.bench.report.numbers import figure
from stylebench.bench.report.rows import Row

T = TypeVar("T")


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: what is shown.
        sort: what it sorts by; None: its text.
        anchor: on the page, that it links to.
        tone: ``good``, ``bad``, ``soft`` or nothing.
    """

    text: str = ""
    sort: float | None = None
    anchor: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Column(Generic[T]):
    """A heading, and how a row comes to its cell."""

    title: str
    cell: Callable[[T], Cell]
    numeric: bool = False


@dataclass(frozen=True)
class Table:
    """A table with its caption; ``columns`` are (title, numeric)."""

    caption: str
    columns: Sequence[tuple[str, bool]]
    rows: Sequence[Sequence[Cell]]


def table(caption: str, columns: Sequence[Column[T]], rows: Iterable[T]) -> Table | None:
    """``rows`` under ``columns``, less the columns that are empty; None without rows."""
    cells = [[column.cell(row) for column in columns] for row in rows]
    kept = [i for i in range(len(columns)) if any(line[i].text for line in cells)]
    if not cells:
        return None
    titles = [(columns[i].title, columns[i].numeric) for i in kept]
    return Table(caption, titles, [[line[i] for i in kept] for line in cells])


def words(title: str, get: Callable[[T], str]) -> Column[T]:
    """A column of texts."""
    return Column(title, lambda row: Cell(get(row)))


def numbers(
    title: str, get: Callable[[T], float | None], spell: Callable[[float], str] = figure
) -> Column[T]:
    """A column of numbers, empty where there is none."""

    def cell(row: T) -> Cell:
        value = get(row)
        return Cell() if value is None or not isfinite(value) else Cell(spell(value), value)

    return Column(title, cell, numeric=True)


def verdict(case: Case) -> Cell:
    """Whether what ran is right, in words, or what became of it."""
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


def source(row: Row) -> Cell:
    """The date and commit of the run, leading to its record."""
    record = row.stored.record
    quick = "quick" if record.quick else ""
    words = (row.date, commit(record), quick)
    return Cell(" ".join(filter(None, words)), anchor=row.anchor)


def commit(record: Record) -> str:
    """Seven digits, ``+ changes`` where the tree was dirty; empty where there was no git."""
    if not record.code.commit:
        return ""
    return record.code.commit[:7] + (" + changes" if record.code.dirty else "")
