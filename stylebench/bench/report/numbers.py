"""Numbers for people: three significant digits and SI prefixes, the same everywhere."""

from __future__ import annotations

import math

TIMES = "\N{MULTIPLICATION SIGN}"

_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""),
             (1e-3, "m"), (1e-6, "\N{MICRO SIGN}"), (1e-9, "n"))  # fmt: skip


def figure(value: float) -> str:
    """Three significant digits: ``1,230``, ``12.3``, ``0.0123``, ``1.23e-05``."""
    value = float(f"{value:.3g}")  # first, so that 9.999 is 10.0 and not 10.00
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    magnitude = math.floor(math.log10(abs(value)))
    if not -4 < magnitude < 6:
        return f"{value:.2e}"
    return f"{value:,.{max(0, 2 - magnitude)}f}"


def si(value: float, unit: str) -> str:
    """``1.53 GB``, ``12.3 ms``; seconds have no kilo."""
    if value == 0:
        return f"0 {unit}"
    rounded = abs(float(f"{value:.3g}"))
    for scale, prefix in _PREFIXES:
        if rounded >= scale and not (unit == "s" and scale > 1):
            return f"{figure(value / scale)} {prefix}{unit}"
    return f"{figure(value)} {unit}"


def seconds(value: float) -> str:
    """``12.3 ms``."""
    return si(value, "s")


def percent(share: float) -> str:
    """``61.2 %`` of a share of 1."""
    return f"{figure(100 * share)} %"


def ratio(value: float) -> str:
    """``3.41`` and a multiplication sign."""
    return f"{figure(value)} {TIMES}"
