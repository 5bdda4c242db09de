"""Two runs compared, case by case: FASTER, SLOWER, SAME or UNCLEAR."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from rich.table import Table

from stylebench.bench.record import Case, Machine, Record
from stylebench.bench.session import show
from stylebench.bench.statistics import deciding, mostly_disturbed

Verdict = Literal["FASTER", "SLOWER", "SAME", "UNCLEAR", "ONLY BEFORE", "ONLY AFTER", "NO TIME"]

_SAME = 0.02  # ratios this close to 1 are the same for all purposes
_RESAMPLES = 2000
_QUANTILES = (0.025, 0.975)


@dataclass(frozen=True)
class Difference:
    """One case in two runs.

    Attributes:
        case: suite and name.
        verdict: what came of it.
        ratio: median time after over median time before; above 1 is slower.
        low: lower end of the ratio's 95 % interval.
        high: its upper end.
        before: median before, s.
        after: median after, s.
    """

    case: str
    verdict: Verdict
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    before: float | None = None
    after: float | None = None


def differences(before: Sequence[Record], after: Sequence[Record]) -> list[Difference]:
    """Every case of either run; a case may be recorded more than once."""
    old, new = _cases(before), _cases(after)
    return [_difference(name, old.get(name), new.get(name)) for name in {**old, **new}]


def _difference(name: str, before: list[Case] | None, after: list[Case] | None) -> Difference:
    if after is None:
        return Difference(name, "ONLY BEFORE")
    if before is None:
        return Difference(name, "ONLY AFTER")
    old, new = ([case.timing for case in cases if case.timing] for cases in (before, after))
    if not old or not new:
        return Difference(name, "NO TIME")
    runs = [[deciding(each.samples, each.disturbed) for each in side] for side in (old, new)]
    medians = [float(np.median(np.concatenate(each))) for each in runs]
    low, high = ratio_interval(*runs)
    found = verdict(low, high)
    if found != "SAME" and any(
        mostly_disturbed(each.samples, each.disturbed) for each in [*old, *new]
    ):
        found = "UNCLEAR"  # nothing but a likeness can be told from disturbed samples
    return Difference(name, found, medians[1] / medians[0], low, high, *medians)


def verdict(low: float, high: float) -> Verdict:
    """What the 95 % interval of a ratio of times says."""
    if low >= 1 - _SAME and high <= 1 + _SAME:
        return "SAME"
    if high < 1:
        return "FASTER"
    return "SLOWER" if low > 1 else "UNCLEAR"


Runs = Sequence[Sequence[float]]


def ratio_interval(before: Runs, after: Runs) -> tuple[float, float]:
    """The 95 % interval of the ratio of medians, by bootstrap; the same every time.

    Runs are drawn first, then samples within each: samples of one run share its luck. A median of
    fewer than three samples has no interval to speak of: it may lie anywhere.
    """
    if min(sum(map(len, runs)) for runs in (before, after)) < 3:
        return 0.0, float("inf")
    random = np.random.default_rng(0)
    ratios = _medians(random, after) / _medians(random, before)
    low, high = np.quantile(ratios, _QUANTILES)
    return float(low), float(high)


def _medians(random: np.random.Generator, runs: Runs) -> np.ndarray[Any, np.dtype[np.float64]]:
    def one() -> float:
        chosen = random.integers(len(runs), size=len(runs))
        return float(
            np.median(np.concatenate([random.choice(runs[i], len(runs[i])) for i in chosen]))
        )

    return np.array([one() for _ in range(_RESAMPLES)])


def percentage(text: str) -> float:
    """``5%`` -> 0.05; ValueError for anything else."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", text)
    if not found:
        raise ValueError(f"--fail-slower: {text!r} is no percentage; expected 5% or so")
    return float(found[1]) / 100


def slower_by(found: Sequence[Difference], limit: float) -> list[Difference]:
    """Those that are surely slower, and by more than ``limit``."""
    return [
        each
        for each in found
        if each.verdict == "SLOWER" and each.ratio is not None and each.ratio > 1 + limit
    ]


def compare_visibly(
    before: Sequence[Record], after: Sequence[Record], limit: float | None, as_json: bool
) -> bool:
    """Print the comparison; return whether nothing is slower by more than ``limit``."""
    found = differences(before, after)
    failed = [] if limit is None else slower_by(found, limit)
    if as_json:
        rows = [_finite(asdict(each)) for each in found]
        passed = not failed
        sys.stdout.write(json.dumps({"cases": rows, "passed": passed}, indent=1) + "\n")
    else:
        show(_table(found, _remark(before, after)))
        for each in failed:
            sys.stdout.write(f"slower than allowed: {each.case}\n")
    return not failed


def _finite(row: Mapping[str, object]) -> dict[str, object]:
    infinite = float("inf")
    return {key: None if value == infinite else value for key, value in row.items()}


def _remark(before: Sequence[Record], after: Sequence[Record]) -> str | None:
    machines = {_identity(record.machine) for record in [*before, *after]}
    return "not on the same machine" if len(machines) > 1 else None


def _identity(machine: Machine) -> tuple[str, str, tuple[str, ...]]:
    return machine.slug, machine.device, tuple(machine.instructions)


def _table(found: Sequence[Difference], remark: str | None) -> Table:
    table = Table(title="time after / time before" + (f" ({remark})" if remark else ""))
    for heading in ("case", "verdict", "ratio", "95 % interval", "before", "after"):
        table.add_column(heading, justify="left" if heading in ("case", "verdict") else "right")
    for each in found:
        row = ["", "", "", ""]
        if each.ratio is not None and each.before is not None and each.after is not None:
            row = [
                f"{each.ratio:.3f}",
                f"{each.low:.3f} .. {each.high:.3f}",
                f"{each.before:.4g} s",
                f"{each.after:.4g} s",
            ]
        table.add_row(each.case, each.verdict, *row)
    return table


def _cases(records: Sequence[Record]) -> dict[str, list[Case]]:
    cases: dict[str, list[Case]] = {}
    for record in records:
        quick = " quick" if record.quick else ""
        for case in record.cases:
            cases.setdefault(f"{record.suite}{quick}: {case.name}", []).append(case)
    return cases
