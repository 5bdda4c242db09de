"""The tables of the page, each a list of columns over the same rows as the charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stylebench.bench.records.record import RecordedCheck, Roof
from stylebench.bench.report.numbers import percent, ratio, si
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


def in_seconds(value: float) -> str:
    """``12.3 ms``."""
    return si(value, "s")


def _bytes(value: float) -> str:
    return si(value, "B")


MACHINE: Column[Row] = words("machine", lambda row: row.machine)
SIZE: Column[Row] = Column("size, px", lambda row: Cell(row.text("size"), row.pixels), True)
ENGINE: Column[Row] = Column(
    "engine", lambda row: Cell(row.text("engine") or row.case.name, tone=row.text("engine"))
)
PRECISION: Column[Row] = words("precision", lambda row: row.text("precision"))
PARITY: Column[Row] = Column("parity", lambda row: verdict(row.case))
RECORD: Column[Row] = Column("record", source)


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


SETTINGS: Column[Row] = words("settings", _settings)
WHO = (MACHINE, SIZE, ENGINE, PRECISION)
PROOF = (SETTINGS, RECORD)


def _spread(row: Row) -> float | None:
    return row.case.timing.spread if row.case.timing else None


def _setup(name: str) -> Column[Row]:
    titles = {"build": "build", "first": "first iteration", "capture": "capture"}
    return numbers(
        titles[name],
        lambda row: getattr(row.case.setup, name) if row.case.setup else None,
        in_seconds,
    )


def speeds(caption: str, rows: Sequence[Row]) -> Table | None:
    """Iterations: how fast, how sure, how much faster than the reference."""
    return table(
        caption,
        [
            *WHO,
            numbers("it/s", lambda row: row.rate),
            PARITY,
            numbers("an iteration", lambda row: 1 / row.rate if row.rate else None, in_seconds),
            numbers("\N{PLUS-MINUS SIGN}", _spread, percent),
            numbers("against reference", lambda row: speed_up(row, rows), ratio),
            numbers("share of roof", lambda row: row.case.roof_share, percent),
            _setup("build"),
            _setup("first"),
            _setup("capture"),
            *PROOF,
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
            *WHO,
            numbers("peak memory", lambda row: row.case.peak_bytes, _bytes),
            numbers("of the reference's", share, percent),
            *PROOF,
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
            MACHINE,
            words("kernel", lambda row: row.text("kernel") or row.case.name),
            words("conditions", lambda row: row.text("conditions")),
            words("layer", lambda row: row.text("layer")),
            SIZE,
            numbers("channels", lambda row: row.number("channels"), lambda n: f"{n:g}"),
            numbers("positions", lambda row: row.number("positions"), lambda n: f"{n:,.0f}"),
            PRECISION,
            Column(
                "implementation",
                lambda row: Cell(row.text("implementation"), tone=row.text("implementation")),
            ),
            numbers("time", lambda row: 1 / row.rate if row.rate else None, in_seconds),
            numbers("against eager", against_eager, ratio),
            numbers("share of roof", lambda row: row.case.roof_share, percent),
            numbers("moved", lambda row: reached(row.case.bytes, row), lambda v: si(v, "B/s")),
            numbers("computed", lambda r: reached(r.case.flops, r), lambda v: si(v, "FLOP/s")),
            PARITY,
            RECORD,
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
            *(_of_row(column) for column in WHO),
            words("part", lambda line: line.name),
            numbers("time", lambda line: line.seconds, in_seconds),
            numbers("share", lambda line: line.share, percent),
            *(_of_row(column) for column in PROOF),
        ],
        lines,
    )


def _of_row(column: Column[Row]) -> Column[_Part]:
    return Column(column.title, lambda line: column.cell(line.row), column.numeric)


def verdicts(rows: Sequence[Row]) -> Table | None:
    """Parity, a line a case, with the check that came nearest to its limit."""

    def tightest(row: Row) -> RecordedCheck | None:
        checks = row.case.parity.checks if row.case.parity else []
        return max(checks, key=_used, default=None)

    return table(
        "Parity by case",
        [
            *WHO,
            PARITY,
            words("nearest to its limit", lambda r: c.what if (c := tightest(r)) else ""),
            numbers("of the limit", lambda r: _used(c) if (c := tightest(r)) else None, percent),
            numbers("PSNR, dB", lambda row: row.number("psnr")),
            words("against", lambda row: row.case.parity.oracle if row.case.parity else ""),
            *PROOF,
        ],
        rows,
    )


def _used(check: RecordedCheck) -> float:
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
