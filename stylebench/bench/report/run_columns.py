"""The tables of whole runs: until a loss is reached, and from the shell to the saved image."""

from __future__ import annotations

import re
from collections.abc import Sequence

from stylebench.bench.report.columns import (
    ENGINE,
    MACHINE,
    PARITY,
    PRECISION,
    PROOF,
    WHO,
    in_seconds,
)
from stylebench.bench.report.numbers import ratio
from stylebench.bench.report.plots import RUNS
from stylebench.bench.report.rows import Row
from stylebench.bench.report.tables import Column, Table, numbers, table

_REACHED = re.compile(r"seconds_to_(\d+)(?:_plus_([\d.]+)_percent)?")

Mark = tuple[int, str]


def times_to_loss(rows: Sequence[Row]) -> Table | None:
    """Seconds until a run has the reference's loss after so many iterations, or little more."""
    marks = {mark: name for row in rows for name in row.case.values if (mark := _mark(name))}
    last = [mark for mark in sorted(marks) if mark[0] == max(marks)[0]]
    return table(
        "Seconds until the loss that the reference has after so many iterations",
        [
            MACHINE,
            ENGINE,
            PRECISION,
            *(_reached(mark, marks[mark]) for mark in sorted(marks)),
            *(_sooner(mark, marks[mark], rows) for mark in last),
            PARITY,
            *PROOF,
        ],
        rows,
    )


def _mark(name: str) -> Mark | None:
    """``seconds_to_300_plus_0.5_percent`` -> 300, "0.5"; None where it is no such value."""
    found = _REACHED.fullmatch(name)
    return (int(found[1]), found[2] or "") if found else None


def _spelled(mark: Mark) -> str:
    iterations, slack = mark
    return f"{iterations} + {slack} %" if slack else f"{iterations}"


def _reached(mark: Mark, name: str) -> Column[Row]:
    return numbers(f"to loss at {_spelled(mark)}", lambda row: row.number(name), in_seconds)


def _sooner(mark: Mark, name: str, rows: Sequence[Row]) -> Column[Row]:
    """How many times sooner than the reference that ran beside it from the same start."""

    def sooner(row: Row) -> float | None:
        run = row.record_anchor, row.text("init")
        theirs = [
            other.number(name)
            for other in rows
            if other.text("engine") == "reference"
            and (other.record_anchor, other.text("init")) == run
        ]
        mine = row.number(name)
        fastest = min((seconds for seconds in theirs if seconds), default=None)
        return fastest / mine if fastest and mine else None

    return numbers(f"sooner than reference, {_spelled(mark)}", sooner, ratio)


def whole_runs(rows: Sequence[Row]) -> Table | None:
    """From the shell to the saved image."""

    def run(key: str, title: str) -> Column[Row]:
        return numbers(title, lambda row: row.number(key), in_seconds)

    return table(
        "From the shell to the saved image",
        [*WHO, *(run(key, title) for key, title in RUNS.items()), PARITY, *PROOF],
        rows,
    )
