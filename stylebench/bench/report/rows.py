"""Cases as rows, each with the record it comes from and a name that tells it from its neighbours.

Suites choose their own parameters and older records have fewer, so anything may be missing here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from stylebench.bench.records.overrides import overrides
from stylebench.bench.records.record import Case
from stylebench.bench.records.store import Stored
from stylebench.bench.report.numbers import TIMES

#: Engines and implementations from the plainest to ours: the order of legends and of tables.
ORDER = ("reference", "eager", "plain", "baddbmm", "compiled", "fused", "stylekernels")
#: The side, px, at which the literature states its figures.
USUAL_SIDE = 512

_ALWAYS = ("engine", "precision")
_SOMETIMES = (
    "size",
    "preset",
    "optimizer",
    "history",
    "scales",
    "init",
    "pooling",
    "seed",
    "conditions",
)
_SPELLED = {"lbfgs": "L-BFGS", "adam": "Adam"}
_WITH_NAME = ("history", "scales", "seed")


@dataclass(frozen=True)
class Row:
    """A case and its record.

    Attributes:
        stored: the record and its file.
        case: the case.
        record_anchor: of the record on the page.
        anchor: of the case on the page.
    """

    stored: Stored
    case: Case
    record_anchor: str
    anchor: str

    @property
    def machine(self) -> str:
        """The machine's name."""
        return self.stored.record.machine.name

    @property
    def suite(self) -> str:
        """The suite's name."""
        return self.stored.record.suite

    @property
    def file(self) -> str:
        """The record's, with the machine's folder: ``nvidia-h200/2026-03-14-iteration.json``."""
        return "/".join(self.stored.path.parts[-2:])

    @property
    def date(self) -> str:
        """Of the run, ``2026-03-14``."""
        return self.stored.record.started[:10]

    @property
    def rate(self) -> float | None:
        """Units of work a second; None without a proven time."""
        timing = self.case.timing
        return 1 / timing.median if timing and timing.median > 0 else None

    @property
    def pixels(self) -> float | None:
        """Of the image."""
        width, height = self.number("width"), self.number("height")
        return width * height if width and height else None

    @property
    def side(self) -> float | None:
        """The longest, px."""
        width, height = self.number("width"), self.number("height")
        return max(width, height) if width and height else None

    @property
    def rank(self) -> tuple[int, str]:
        """Sorts engines and implementations from the plainest to ours."""
        name = self.text("engine") or self.text("implementation")
        return (ORDER.index(name) if name in ORDER else len(ORDER), name)

    def number(self, name: str) -> float | None:
        """A parameter or value that is a finite number; None otherwise."""
        value = self.case.parameters.get(name, self.case.values.get(name))
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return float(value) if math.isfinite(value) else None

    def text(self, name: str) -> str:
        """A parameter as a person reads it; empty where it is missing or means nothing.

        ``conditions`` are what was not as usual about weights, threads and pictures.
        """
        if name == "size":
            width, height = self.number("width"), self.number("height")
            return f"{width:g} {TIMES} {height:g}" if width and height else ""
        if name == "conditions":
            return ", ".join(overrides(self.stored.record, self.case))
        if name == "history" and self.text("optimizer") not in ("", _SPELLED["lbfgs"]):
            return ""  # records state the setting, but no other optimiser keeps pairs
        value = self.case.parameters.get(name)
        return "" if value is None else _SPELLED.get(str(value), str(value))


def gather(stored: Sequence[Stored]) -> list[Row]:
    """The cases that count: of each, on each machine and under the same conditions, the newest.

    A quick run counts only where there is no full one. ``stored`` is oldest first.
    """
    newest: dict[tuple[object, ...], Row] = {}
    for quick in (True, False):  # what comes later replaces what came before
        for index, each in enumerate(stored):
            if each.record.quick is not quick:
                continue
            record = each.record
            for number, case in enumerate(record.cases):
                run = (record.machine.slug, record.machine.device, record.suite)
                key = (*run, case.name, overrides(record, case))
                newest[key] = Row(
                    each, _proven(case), f"record-{index}", f"record-{index}-{number}"
                )
    return sorted(newest.values(), key=lambda row: (row.machine, row.pixels or 0, row.rank))


def _proven(case: Case) -> Case:
    """``case``, less everything that is or comes from a time where what ran was not right."""
    if case.status == "ok" and (case.parity is None or case.parity.passed):
        return case
    values = {name: value for name, value in case.values.items() if "seconds" not in name}
    return replace(
        case, timing=None, setup=None, roof_share=None, parts={}, curve=[], values=values
    )


def of_suite(rows: Iterable[Row], *suites: str) -> list[Row]:
    """Those of some suites."""
    return [row for row in rows if row.suite in suites]


def by_machine(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Machine's name -> its rows."""
    machines: dict[str, list[Row]] = {}
    for row in rows:
        machines.setdefault(row.machine, []).append(row)
    return machines


def usual_size(rows: Iterable[Row]) -> list[Row]:
    """The rows of one size: that whose longest side is nearest to what the literature states."""
    rows = list(rows)
    sizes = Counter(row.text("size") for row in rows if row.side)
    if not sizes:
        return rows

    def preference(row: Row) -> tuple[float, int]:
        return abs(math.log((row.side or 1) / USUAL_SIDE)), -sizes[row.text("size")]

    best = min((row for row in rows if row.side), key=preference).text("size")
    return [row for row in rows if row.text("size") == best]


def reference_of(row: Row, rows: Iterable[Row]) -> Row | None:
    """The reference engine's timed row for the same work in the same run, fp32 if there.

    Another run had other sources, and a machine that was busy or warm in another way.
    """
    same = ("size", "preset", "optimizer", "history", "scales")
    twins = [
        other
        for other in rows
        if other.text("engine") == "reference"
        and other.rate
        and other.record_anchor == row.record_anchor
        and all(other.text(name) == row.text(name) for name in same)
    ]
    return min(twins, key=lambda twin: twin.text("precision") != "fp32", default=None)


def speed_up(row: Row, rows: Iterable[Row]) -> float | None:
    """How many times the reference's rate; None where either has no proven time."""
    reference = reference_of(row, rows)
    return row.rate / reference.rate if reference and reference.rate and row.rate else None


def labels(rows: Sequence[Row], always: Sequence[str] = _ALWAYS) -> list[str]:
    """A name for each row: ``always``, and whatever else differs among them."""
    differing = [name for name in _SOMETIMES if len({row.text(name) for row in rows}) > 1]
    names = [_label(row, (*always, *differing)) for row in rows]
    counts = Counter(names)
    return [
        row.case.name if not name or counts[name] > 1 else name
        for row, name in zip(rows, names, strict=True)
    ]


def _label(row: Row, fields: Iterable[str]) -> str:
    texts = ((name, row.text(name)) for name in fields)
    return " ".join(
        f"{name} {text}" if name in _WITH_NAME else text for name, text in texts if text
    )
