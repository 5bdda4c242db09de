"""The first thing on the page: for each machine, the fused engine's best figure and its proof."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stylebench.bench.report.numbers import figure, percent, ratio
from stylebench.bench.report.rows import (
    Row,
    by_machine,
    labels,
    of_suite,
    reference_of,
    speed_up,
    usual_size,
)
from stylebench.bench.report.tables import Cell, source, verdict
from stylebench.transfer.settings import Settings


@dataclass(frozen=True)
class Headline:
    """One machine's card; ``rate`` is empty where the fused engine has no proven time."""

    machine: str
    rate: str
    what: str
    facts: list[str]
    parity: Cell | None
    record: Cell | None


def headlines(rows: Iterable[Row]) -> list[Headline]:
    """One a machine that ran the suite of iterations, at the size nearest to 512 px.

    It is the fastest fused row; but one with a ratio to the reference goes before one without, then
    one under the usual conditions, and then one of the default history before others.
    """
    return [_headline(*each) for each in by_machine(of_suite(rows, "iteration")).items()]


def _headline(machine: str, rows: list[Row]) -> Headline:
    fused = [row for row in rows if row.text("engine") == "fused" and row.rate]
    if not fused:
        return Headline(machine, "", "no fused case with a passing parity block", [], None, None)
    best = max(usual_size(fused), key=lambda row: _standing(row, rows))
    rate = figure(best.rate or 0)
    return Headline(
        machine, rate, _what(best), _facts(best, rows), verdict(best.case), source(best)
    )


def _standing(row: Row, rows: list[Row]) -> tuple[bool, bool, bool, float]:
    """What can be said against the reference comes first, then what a user gets, then speed."""
    usual = not row.text("conditions"), row.text("history") == str(Settings.history)
    return speed_up(row, rows) is not None, *usual, row.rate or 0


def _what(row: Row) -> str:
    history = row.text("history")
    words = (
        labels([row])[0],
        row.text("size"),
        row.text("optimizer"),
        f"history {history}" if history else "",
        row.text("conditions"),
    )
    return ", ".join(filter(None, words))


def _facts(row: Row, rows: list[Row]) -> list[str]:
    facts = []
    reference, faster = reference_of(row, rows), speed_up(row, rows)
    if reference and reference.rate and faster:
        facts.append(f"{ratio(faster)} the reference, {figure(reference.rate)} it/s")
    if row.case.roof_share is not None:
        facts.append(f"{percent(row.case.roof_share)} of the measured roof")
    return facts
