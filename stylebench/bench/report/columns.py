"""The tables of the page, each a list of columns over the same rows as the charts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from stylebench.bench.record import Check, Roof
from stylebench.bench.report.numbers import percent, ratio, si
from stylebench.bench.report.plots import RUNS
from stylebench.bench.report.rows import Row, reference_of, speed_up
from stylebench.bench.report.tables import (
    Cell,
    Column,
    Table,
    numbers,
    source,
    table,
    verdict,
    words,
)


def _seconds(value: float) -> str:
    return si(value, "s")


def _bytes(value: float) -> str:
    return si(value, "B")


_MACHINE: Column[Row] = words("machine", lambda row: row.machine)
_SIZE: Column[Row] = Column("size, px", lambda row: Cell(row.text("size"), row.pixels), True)
_ENGINE: Column[Row] = Column(
    "engine", lambda row: Cell(row.text("engine") or row.case.name, tone=row.text("engine"))
)
_PRECISION: Column[Row] = words("precision", lambda row: row.text("precision"))
_PARITY: Column[Row] = Column("parity", lambda row: verdict(row.case))
_RECORD: Column[Row] = Column("record", source)


def _settings(row: Row) -> str:
    history = row.text("history")
    scales, start = row.text("scales"), row.text("init")
    parts = (
        row.text("preset"),
        row.text("optimizer") + (f" {history}" if history else ""),
        f"scales {scales}" if scales else "",
        f"from {start}" if start else "",
        row.text("conditions"),
    )
    return ", ".join(filter(None, parts))


_SETTINGS: Column[Row] = words("settings", _settings)
_WHO = (_MACHINE, _SIZE, _ENGINE, _PRECISION)
_PROOF = (_SETTINGS, _RECORD)


def _spread(row: Row) -> float | None:
    return row.case.timing.spread if row.case.timing else None


def _setup(name: str) -> Column[Row]:
    titles = {"build": "build", "first": "first iteration", "capture": "capture"}
    return numbers(
        titles[name],
        lambda row: getattr(row.case.setup, name) if row.case.setup else None,
        _seconds,
    )


def speeds(caption: str, rows: Sequence[Row]) -> Table | None:
    """Iterations: how fast, how sure, how much faster than the reference."""
    return table(
        caption,
        [
            *_WHO,
            numbers("it/s", lambda row: row.rate),
            _PARITY,
            numbers("an iteration", lambda row: 1 / row.rate if row.rate else None, _seconds),
            numbers("\N{PLUS-MINUS SIGN}", _spread, percent),
            numbers("against reference", lambda row: speed_up(row, rows), ratio),
            numbers("share of roof", lambda row: row.case.roof_share, percent),
            _setup("build"),
            _setup("first"),
            _setup("capture"),
            *_PROOF,
        ],
        rows,
    )


def memory(rows: Sequence[Row]) -> Table | None:
    """Peak memory, and against the reference's."""

    def share(row: Row) -> float | None:
        reference = reference_of(row, rows)
        if reference is None or not reference.case.peak_bytes or not row.case.peak_bytes:
            return None
        return row.case.peak_bytes / reference.case.peak_bytes

    return table(
        "Peak memory",
        [
            *_WHO,
            numbers("peak memory", lambda row: row.case.peak_bytes, _bytes),
            numbers("of the reference's", share, percent),
            *_PROOF,
        ],
        [row for row in rows if row.case.peak_bytes],
    )


def kernels(rows: Sequence[Row]) -> Table | None:
    """Kernels: time, what was reached, and against the eager formulation."""

    def against_eager(row: Row) -> float | None:
        same = ("kernel", "layer", "precision", "size")
        for other in rows:
            if (
                other.text("implementation") == "eager"
                and other.rate
                and other.record_anchor == row.record_anchor
                and all(other.text(name) == row.text(name) for name in same)
            ):
                return row.rate / other.rate if row.rate else None
        return None

    def reached(amount: float | None, row: Row) -> float | None:
        return amount * row.rate if amount and row.rate else None

    return table(
        "Kernels",
        [
            _MACHINE,
            words("kernel", lambda row: row.text("kernel") or row.case.name),
            words("conditions", lambda row: row.text("conditions")),
            words("layer", lambda row: row.text("layer")),
            _SIZE,
            numbers("channels", lambda row: row.number("channels"), lambda n: f"{n:g}"),
            numbers("positions", lambda row: row.number("positions"), lambda n: f"{n:,.0f}"),
            _PRECISION,
            Column(
                "implementation",
                lambda row: Cell(row.text("implementation"), tone=row.text("implementation")),
            ),
            numbers("time", lambda row: 1 / row.rate if row.rate else None, _seconds),
            numbers("against eager", against_eager, ratio),
            numbers("share of roof", lambda row: row.case.roof_share, percent),
            numbers("moved", lambda row: reached(row.case.bytes, row), lambda v: si(v, "B/s")),
            numbers("computed", lambda r: reached(r.case.flops, r), lambda v: si(v, "FLOP/s")),
            _PARITY,
            _RECORD,
        ],
        rows,
    )


@dataclass(frozen=True)
class _Part:
    row: Row
    name: str
    seconds: float
    share: float


def parts(rows: Sequence[Row]) -> Table | None:
    """Where an iteration's time goes, a line a part."""
    lines = [
        _Part(row, name, seconds, seconds / (sum(row.case.parts.values()) or 1))
        for row in rows
        for name, seconds in row.case.parts.items()
    ]
    return table(
        "Parts of an iteration",
        [
            *(_of_row(column) for column in _WHO),
            words("part", lambda line: line.name),
            numbers("time", lambda line: line.seconds, _seconds),
            numbers("share", lambda line: line.share, percent),
            *(_of_row(column) for column in _PROOF),
        ],
        lines,
    )


def _of_row(column: Column[Row]) -> Column[_Part]:
    return Column(column.title, lambda line: column.cell(line.row), column.numeric)


def times_to_loss(rows: Sequence[Row]) -> Table | None:
    """Seconds until a run has the reference's loss after so many iterations."""
    marks = {
        int(found[1])
        for row in rows
        for name in row.case.values
        if (found := re.fullmatch(r"seconds_to_(\d+)", name))
    }

    def sooner(row: Row) -> float | None:
        last = f"seconds_to_{max(marks, default=0)}"
        theirs = [
            other.number(last)
            for other in rows
            if other.text("engine") == "reference"
            and (other.record_anchor, other.text("init")) == (row.record_anchor, row.text("init"))
        ]
        mine = row.number(last)
        fastest = min((seconds for seconds in theirs if seconds), default=None)
        return fastest / mine if fastest and mine else None

    def reached(mark: int) -> Column[Row]:
        name = f"seconds_to_{mark}"
        return numbers(f"to loss at {mark}", lambda row: row.number(name), _seconds)

    return table(
        "Seconds until the loss that the reference has after so many iterations",
        [
            _MACHINE,
            _ENGINE,
            _PRECISION,
            *(reached(mark) for mark in sorted(marks)),
            numbers("sooner than reference", sooner, ratio),
            _PARITY,
            *_PROOF,
        ],
        rows,
    )


def whole_runs(rows: Sequence[Row]) -> Table | None:
    """From the shell to the saved image."""

    def run(key: str, title: str) -> Column[Row]:
        return numbers(title, lambda row: row.number(key), _seconds)

    return table(
        "From the shell to the saved image",
        [*_WHO, *(run(key, title) for key, title in RUNS.items()), _PARITY, *_PROOF],
        rows,
    )


def verdicts(rows: Sequence[Row]) -> Table | None:
    """Parity, a line a case, with the check that came nearest to its limit."""

    def tightest(row: Row) -> Check | None:
        checks = row.case.parity.checks if row.case.parity else []
        return max(checks, key=_used, default=None)

    return table(
        "Parity by case",
        [
            *_WHO,
            _PARITY,
            words("nearest to its limit", lambda r: c.what if (c := tightest(r)) else ""),
            numbers("of the limit", lambda r: _used(c) if (c := tightest(r)) else None, percent),
            numbers("PSNR, dB", lambda row: row.number("psnr")),
            words("against", lambda row: row.case.parity.oracle if row.case.parity else ""),
            *_PROOF,
        ],
        rows,
    )


def _used(check: Check) -> float:
    """The share of the limit that an error takes up."""
    if check.value is None or check.limit <= 0:
        return 0.0 if check.passed else float("inf")
    return check.value / check.limit


def roofs(rows: Sequence[Row]) -> Table | None:
    """The measured roofs of every record that the rows come from."""
    lines = {
        (row.record_anchor, index): (row, roof)
        for row in rows
        for index, roof in enumerate(row.stored.record.roofs)
    }

    def spelled(roof: Roof) -> str:
        size = f"{roof.width} x {roof.height}" if roof.width and roof.height else ""
        return " ".join(filter(None, (roof.what, roof.precision, size)))

    return table(
        "Measured roofs",
        [
            words("machine", lambda line: line[0].machine),
            words("roof", lambda line: spelled(line[1])),
            Column(
                "reached", lambda line: Cell(si(line[1].value, line[1].unit), line[1].value), True
            ),
            Column("record", lambda line: source(line[0])),
        ],
        lines.values(),
    )
