"""Two runs compared, case by case: FASTER, SLOWER, SAME or UNCLEAR."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from rich.table import Table

from stylebench.bench.compare.durations import FEWEST, Durations, durations
from stylebench.bench.records.overrides import overrides
from stylebench.bench.records.record import Case, Machine, Record
from stylebench.bench.records.show import print_table

Verdict = Literal["FASTER", "SLOWER", "SAME", "UNCLEAR", "ONLY BEFORE", "ONLY AFTER", "NO TIME"]

_SAME = 0.02  # ratios this close to 1 are the same for all purposes
_FAR = 0.05  # ratios of single times that are nearer to 1 tell nothing
_SINGLE = f"single runs, no interval: within {100 * _FAR:.0f} % nothing is told"
_RESAMPLES = 2000
_QUANTILES = (0.025, 0.975)


@dataclass(frozen=True)
class Difference:
    """One time in two runs.

    Attributes:
        case: suite and name, and the name of the time where a case has several.
        verdict: on the ratio, or on the lack of one.
        ratio: median time after over median time before; above 1 is slower.
        low: lower end of the ratio's 95 % interval; null where there is none.
        high: its upper end.
        before: median before, s.
        after: median after, s.
        remark: why there is no time, or no interval.
    """

    case: str
    verdict: Verdict
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    before: float | None = None
    after: float | None = None
    remark: str | None = None


def differences(before: Sequence[Record], after: Sequence[Record]) -> list[Difference]:
    """Every time of either run; a case may be recorded more than once, and have several times."""
    old, new = _cases(before), _cases(after)
    return [
        difference
        for name in {**old, **new}
        for difference in _of_case(name, old.get(name, []), new.get(name, []))
    ]


def _of_case(name: str, before: list[Case], after: list[Case]) -> Iterator[Difference]:
    old, new = durations(before), durations(after)
    if not after:
        yield Difference(name, "ONLY BEFORE", before=_median(*old.values()))
    elif not before:
        yield Difference(name, "ONLY AFTER", after=_median(*new.values()))
    elif not (old or new):
        yield Difference(name, "NO TIME", remark=_why(before, after))
    else:
        for which in {**old, **new}:
            label = f"{name}, {which}" if which else name
            yield _difference(label, old.get(which), new.get(which), _why(before, after))


def _difference(
    name: str, old: Durations | None, new: Durations | None, why: str | None
) -> Difference:
    if old is None or new is None:
        lost = Difference(name, "NO TIME", remark=why or "not reached")
        return replace(lost, before=_median(old), after=_median(new))
    both, ratio = (old.median, new.median), new.median / old.median
    if old.bare or new.bare:
        return Difference(name, _of_single(ratio), ratio, None, None, *both, _SINGLE)
    low, high = ratio_interval(old.runs, new.runs)
    result, remark = verdict(low, high), None
    if result != "SAME" and (old.disturbed or new.disturbed):
        # Disturbed samples can show that two times are the same, but not that they differ.
        result, remark = "UNCLEAR", "most samples were disturbed"
    return Difference(name, result, ratio, low, high, *both, remark)


def _median(*times: Durations | None) -> float | None:
    """The median of the first that there is."""
    return next((time.median for time in times if time), None)


def _why(before: Sequence[Case], after: Sequence[Case]) -> str | None:
    """The reason for which a case has no time."""
    sides = (("before", before), ("after", after))
    failed = [f"{side}: {case.status}" for side, cases in sides for case in cases
              if case.status != "ok"]  # fmt: skip
    return ", ".join(dict.fromkeys(failed)) or None


def _of_single(ratio: float) -> Verdict:
    """The verdict on two single times: they differ where they are far apart, or it is unclear."""
    if abs(ratio - 1) <= _FAR:
        return "UNCLEAR"
    return "FASTER" if ratio < 1 else "SLOWER"


def verdict(low: float, high: float) -> Verdict:
    """The verdict by the 95 % interval of a ratio of times."""
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
    if min(sum(map(len, runs)) for runs in (before, after)) < FEWEST:
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
    match = re.fullmatch(r"\s*([0-9]{1,9}(?:\.[0-9]+)?)\s*%\s*", text)
    if not match:
        raise ValueError(f"--fail-slower: {text!r} is no percentage; expected 5% or so")
    return float(match[1]) / 100


def failures(results: Sequence[Difference], limit: float) -> list[str]:
    """A line for each case slower by more than ``limit``, for each lost time, and for no case."""
    lines = []
    for result in results:
        if result.verdict == "SLOWER" and result.ratio is not None and result.ratio > 1 + limit:
            lines.append(f"slower than allowed: {result.case}")
        elif result.verdict in ("NO TIME", "ONLY BEFORE") and result.before is not None:
            lines.append(f"no time any more: {result.case} ({result.remark or 'not run'})")
    if not any(result.ratio is not None for result in results):
        lines.append("nothing was compared: no case has a time in both runs")
    return lines


def print_comparison(
    before: Sequence[Record],
    after: Sequence[Record],
    limit: float | None,
    as_json: bool,
    faults: Sequence[str] = (),
) -> bool:
    """Print the comparison; return whether nothing is slower by more than ``limit``.

    A lost time fails too, and so does having nothing to compare, or a file that was left out,
    which each of ``faults`` names: what was in it cannot be told.
    """
    results, remark = differences(before, after), _remark(before, after)
    failed = [] if limit is None else failures(results, limit)
    failed += [] if limit is None else [f"left out: {fault}" for fault in faults]
    if as_json:
        rows = [_finite(asdict(result)) for result in results]
        answer = {"remark": remark, "cases": rows, "failures": failed, "passed": not failed}
        sys.stdout.write(json.dumps(answer, indent=1) + "\n")
    else:
        print_table(_table(results, remark))
        sys.stdout.write("".join(f"{line}\n" for line in failed))
    return not failed


def _finite(row: Mapping[str, object]) -> dict[str, object]:
    infinite = float("inf")
    return {key: None if value == infinite else value for key, value in row.items()}


def _remark(before: Sequence[Record], after: Sequence[Record]) -> str | None:
    machines = {_identity(record.machine) for record in [*before, *after]}
    return "not on the same machine" if len(machines) > 1 else None


def _identity(machine: Machine) -> tuple[str, str, tuple[str, ...]]:
    return machine.slug, machine.device, tuple(machine.instructions)


def _table(results: Sequence[Difference], remark: str | None) -> Table:
    table = Table(title="time after / time before" + (f" ({remark})" if remark else ""))
    left = ("case", "verdict", "")
    for heading in ("case", "verdict", "ratio", "95 % interval", "before", "after", ""):
        table.add_column(heading, justify="left" if heading in left else "right")
    for result in results:
        table.add_row(
            result.case,
            result.verdict,
            "" if result.ratio is None else f"{result.ratio:.3f}",
            "" if result.low is None else f"{result.low:.3f} .. {result.high:.3f}",
            "" if result.before is None else f"{result.before:.4g} s",
            "" if result.after is None else f"{result.after:.4g} s",
            result.remark or "",
        )
    return table


def _cases(records: Sequence[Record]) -> dict[str, list[Case]]:
    cases: dict[str, list[Case]] = {}
    for record in records:
        quick = " quick" if record.quick else ""
        for case in record.cases:
            unusual = "".join(f", {override}" for override in overrides(record, case))
            cases.setdefault(f"{record.suite}{quick}: {case.name}{unusual}", []).append(case)
    return cases
