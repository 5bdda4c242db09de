"""The first thing on the page: for each machine, the fused engine's best case."""

from __future__ import annotations

from typing import Any

import pandas as pd

from stylebench.bench.report.frame import labels, usual_size
from stylebench.transfer.settings import HISTORY


def headlines(frame: pd.DataFrame) -> dict[str, dict[str, Any] | None]:
    """Machine that ran the suite of iterations -> its best case, see ``best_fused``."""
    machines = frame[frame["suite"] == "iteration"].groupby("machine", sort=False)
    return {str(machine): best_fused(rows) for machine, rows in machines}


def best_fused(rows: pd.DataFrame) -> dict[str, Any] | None:
    """The row, with its ``label``, of the fastest fused case at the size nearest to 512 px.

    A case with a ratio to the reference goes before one without, then one under the usual
    conditions, and then one of the default history before others: what can be said against the
    reference comes first, then what a user gets, then speed. None without a proven time.
    """
    fused = usual_size(rows[(rows["engine"] == "fused") & (rows["rate"] > 0)])
    ranked = fused.assign(
        compared=fused["faster"].notna(),
        usual=fused["overrides"] == "",
        default=fused["history"] == f"history {HISTORY}",
    ).nlargest(1, ["compared", "usual", "default", "rate"])
    found = ranked.assign(label=labels(ranked))
    return None if found.empty else {str(name): found[name].iloc[0] for name in found}
