"""The times of a case: of its steady state, or until it reached each loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stylebench.bench.measure.statistics import deciding, mostly_disturbed
from stylebench.bench.records.record import Case

FEWEST = 3  # samples whose median has an interval to speak of
_REACHED = "seconds_to_"


@dataclass(frozen=True)
class Durations:
    """One time of a case, from every run of it.

    Attributes:
        runs: samples of each run, s.
        disturbed: whether most samples of any run were disturbed.
        bare: whether the runs have one time each and are too few for an interval.
    """

    runs: list[list[float]]
    disturbed: bool = False
    bare: bool = False

    @property
    def median(self) -> float:
        """Median of all samples, s."""
        return float(np.median(np.concatenate(self.runs)))


def durations(cases: Sequence[Case]) -> dict[str, Durations]:
    """Name -> time; the steady state's name is empty. A case that failed its checks has none.

    A case that runs until it has reached a loss has no steady state, but ``seconds_to_300``.
    """
    proven = [case for case in cases if case.status == "ok" and case.parity and case.parity.passed]
    if steady := [case.timing for case in proven if case.timing]:
        runs = [deciding(timing.samples, timing.disturbed) for timing in steady]
        disturbed = any(mostly_disturbed(timing.samples, timing.disturbed) for timing in steady)
        return {"": Durations(runs, disturbed)}
    reached: dict[str, list[list[float]]] = {}
    for case in proven:
        for name, seconds in case.values.items():
            if name.startswith(_REACHED):
                reached.setdefault(name, []).append([seconds])
    return {name: Durations(runs, bare=len(runs) < FEWEST) for name, runs in reached.items()}
