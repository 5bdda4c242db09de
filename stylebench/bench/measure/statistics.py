"""Medians and their confidence intervals, free of any assumption on the distribution of times."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np

from stylebench.bench.records.record import Timing

_CONFIDENCE = 0.95


def interval(samples: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the median: two order statistics, by the binomial distribution.

    With fewer than six samples no pair of them is that sure; the whole range is returned.
    """
    ordered = sorted(samples)
    count = len(ordered)
    rank = _rank(count)
    return ordered[rank], ordered[count - 1 - rank]


def _rank(count: int) -> int:
    """The largest k such that the median lies outside [k, count - 1 - k] 5 % of the time or less.

    Beyond 1000 samples the normal approximation is exact enough.
    """
    if count > 1000:
        return max(0, int((count - 1.96 * count**0.5) / 2))
    below, rank = 0.0, 0
    for k in range(count // 2):
        below += comb(count, k) / 2**count
        if 2 * below > 1 - _CONFIDENCE:
            break
        rank = k
    return rank


def spread(samples: Sequence[float]) -> float:
    """Half-width of the 95 % interval of the median, over the median."""
    low, high = interval(samples)
    return (high - low) / 2 / float(np.median(samples))


def deciding(samples: Sequence[float], disturbed: Sequence[int]) -> list[float]:
    """The samples that the median is taken of: the undisturbed, or all where most are disturbed.

    In that case the disturbance is how this machine runs, and a few fast samples would flatter it.

    Args:
        samples: seconds.
        disturbed: indices of samples during which something else ran.
    """
    if mostly_disturbed(samples, disturbed):
        return list(samples)
    flagged = set(disturbed)
    return [value for index, value in enumerate(samples) if index not in flagged]


def mostly_disturbed(samples: Sequence[float], disturbed: Sequence[int]) -> bool:
    """Whether more than half of the samples were: ``disturbed`` holds their indices."""
    return 2 * len(set(disturbed)) > len(samples)


def timing(
    clock: str,
    samples: Sequence[float],
    disturbed: Sequence[int] = (),
    per_sample: int = 1,
    warmup: int = 0,
) -> Timing:
    """Summary of samples: median, quartiles and spread of those that ``deciding`` selects.

    Args:
        clock: name of the clock that took them.
        samples: seconds a unit.
        disturbed: indices of samples during which something else ran.
        per_sample: units in each.
        warmup: units before the first.
    """
    judged = deciding(samples, disturbed)
    q1, median, q3 = (float(value) for value in np.quantile(judged, (0.25, 0.5, 0.75)))
    return Timing(
        clock=clock,
        samples=list(samples),
        disturbed=sorted(set(disturbed)),
        median=median,
        q1=q1,
        q3=q3,
        spread=spread(judged),
        per_sample=per_sample,
        warmup=warmup,
    )
