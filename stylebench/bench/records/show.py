"""Records for people: a table of one, a line a case, a time with its unit."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.table import Table

from stylebench.bench.records.record import Case, Record
from stylebench.console import stdout_console

_LINE = 160  # characters, where the output is no terminal: room for the longest names


def print_table(table: Table) -> None:
    """Print ``table`` on stdout, as wide as the terminal or 160 characters."""
    width = None if sys.stdout.isatty() else _LINE
    stdout_console(width=width).print(table, soft_wrap=False)


def record_table(record: Record) -> Table:
    """A table of a record, one row a case."""
    ending = "" if record.complete else ", incomplete"
    table = Table(title=f"{record.suite} on {record.machine.name}{ending}")
    for heading in ("case", "median", "+-", "rate", "roof", "peak", "parity", ""):
        table.add_column(heading, justify="left" if heading in ("case", "") else "right")
    for case in record.cases:
        table.add_row(case.name, *_figures(case))
    return table


def _figures(case: Case) -> Iterable[str]:
    timing = case.timing
    remark = case.note or ""
    if case.status != "ok":
        remark = f"{case.status}: {remark}"
    elif timing is None:
        remark = _values(case, 3)
    return (
        duration(timing.median) if timing else "",
        f"{100 * timing.spread:.1f} %" if timing else "",
        f"{1 / timing.median:.4g}/s" if timing else "",
        "" if case.roof_share is None else f"{100 * case.roof_share:.0f} %",
        "" if case.peak_bytes is None else f"{case.peak_bytes / 2**20:.0f} MiB",
        "" if case.parity is None else ("ok" if case.parity.passed else "FAIL"),
        remark,
    )


def summary(case: Case) -> str:
    """A case in one line."""
    if case.status != "ok":
        return f"{case.name}: {case.status}" + (f" ({case.note})" if case.note else "")
    timing = case.timing
    if timing is None:
        return f"{case.name}: {_values(case, 4) or 'ok'}"
    share = "" if case.roof_share is None else f", {100 * case.roof_share:.0f} % of the roof"
    return (
        f"{case.name}: {duration(timing.median)} +- {100 * timing.spread:.1f} %, "
        f"{1 / timing.median:.4g}/s{share}"
    )


def _values(case: Case, most: int) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in list(case.values.items())[:most])


def duration(seconds: float) -> str:
    """``12.3 ms``."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
