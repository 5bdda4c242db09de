"""The first thing on the page: for each machine, the fused engine's best figure and its proof."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from stylebench.bench.report.frame import labels, usual_size
from stylebench.bench.report.numbers import figure, percent, ratio
from stylebench.bench.report.tables import Cell
from stylebench.transfer.settings import Settings


class Headline(NamedTuple):
    """One machine's card; all but its name is empty where the fused engine has no proven time."""

    machine: str
    rate: str = ""
    conditions: str = ""
    facts: tuple[str, ...] = ()
    parity: Cell | None = None
    record: Cell | None = None


def headlines(frame: pd.DataFrame) -> list[Headline]:
    """One a machine that ran the suite of iterations, at the size nearest to 512 px."""
    iteration = frame[frame["suite"] == "iteration"]
    return [_headline(str(name), rows) for name, rows in iteration.groupby("machine", sort=False)]


def best_fused(rows: pd.DataFrame) -> pd.DataFrame:
    """The row of the fastest fused case at the usual size, or none.

    A case with a ratio to the reference goes before one without, then one under the usual
    conditions, and then one of the default history before others: what can be said against the
    reference comes first, then what a user gets, then speed.
    """
    fused = usual_size(rows[(rows["engine"] == "fused") & (rows["rate"] > 0)])
    return fused.assign(
        compared=fused["faster"].notna(),
        usual=fused["overrides"] == "",
        default=fused["history"] == f"history {Settings.history}",
    ).nlargest(1, ["compared", "usual", "default", "rate"])


def _headline(machine: str, rows: pd.DataFrame) -> Headline:
    found = best_fused(rows)
    if found.empty:
        return Headline(machine)
    best = found.iloc[0]
    words = (*labels(found), best["size"], best["optimizer"], best["history"], best["overrides"])
    facts = []
    if best["faster"] > 0:
        rate = figure(best["reference_rate"])
        facts.append(f"{ratio(best['faster'])} the reference, {rate} it/s")
    if best["roof_share"] >= 0:
        facts.append(f"{percent(best['roof_share'])} of the measured roof")
    conditions = ", ".join(filter(None, words))
    rate = figure(best["rate"])
    return Headline(machine, rate, conditions, tuple(facts), best["verdict"], best["link"])
