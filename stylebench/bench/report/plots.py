"""The charts: which cases each of them draws, and against what; one chart a machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from stylebench.bench.report.charts import (
    Chart,
    Series,
    bars,
    dots,
    engine_lines,
    lines,
    log_axis,
    spare_look,
)
from stylebench.bench.report.numbers import figure, percent, ratio, si
from stylebench.bench.report.palette import GREY, colour
from stylebench.bench.report.rows import (
    Row,
    by_machine,
    labels,
    reference_of,
    speed_up,
    usual_size,
)

Draw = Callable[[str, str, list[Row]], Chart | None]

_MOST_BARS = 16
_APART = 1.5  # times the pixels; sizes nearer to each other than this would have overlapping marks


def each_machine(slug: str, rows: Iterable[Row], draw: Draw) -> list[Chart]:
    """``draw`` applied to every machine's rows; machines with nothing to draw are left out."""
    drawn = [
        draw(f"{slug}-{number}", machine, its_rows)
        for number, (machine, its_rows) in enumerate(by_machine(rows).items())
    ]
    return [chart for chart in drawn if chart]


def rate_bars(slug: str, machine: str, rows: list[Row]) -> Chart | None:
    """Iterations a second at the usual size, fastest first, beside the ratio to the reference."""
    timed = usual_size(row for row in rows if row.rate)
    timed = sorted(timed, key=lambda row: -(row.rate or 0))[:_MOST_BARS]
    if not timed:
        return None
    rates = [row.rate or 0 for row in timed]
    series = Series(
        "it/s", rates, labels(timed), [_rate_words(row, rows) for row in timed],
        [row.file for row in timed],
        {"marker": {"color": [colour(row.text("engine")) for row in timed]}},
    )  # fmt: skip
    # Room to the right of the longest bar for its words.
    axis = {"title": {"text": "it/s"}, "range": [0, 1.6 * max(rates)], "nticks": 6}
    return bars(slug, _title(machine, timed), [series], axis, text=True)


def _rate_words(row: Row, rows: Iterable[Row]) -> str:
    words = figure(row.rate or 0)
    faster = None if row is reference_of(row, rows) else speed_up(row, rows)
    return words if faster is None else f"{words}, {ratio(faster)}"


def rate_by_size(slug: str, machine: str, rows: list[Row]) -> Chart | None:
    """Iterations a second against pixels, both logarithmic."""
    return _by_size(
        slug, machine, rows, lambda row: row.rate, lambda v: f"{figure(v)} it/s", "it/s"
    )


def memory_by_size(slug: str, machine: str, rows: list[Row]) -> Chart | None:
    """Peak memory against pixels, both logarithmic."""
    return _by_size(
        slug, machine, rows, lambda row: row.case.peak_bytes, lambda v: si(v, "B"), "peak memory, B"
    )


def _by_size(
    slug: str,
    machine: str,
    rows: list[Row],
    value: Callable[[Row], float | None],
    spell: Callable[[float], str],
    unit: str,
) -> Chart | None:
    drawn = [row for row in rows if row.pixels and value(row)]
    # Named over all of them at once, so that a line's name is the same at every size.
    groups = _lines_of(drawn)
    looks = engine_lines([points[0] for points in groups.values()])
    series = [
        Series(
            name,
            [row.pixels for row in points],
            [value(row) for row in points],
            [f"{name}, {row.text('size')}: {spell(value(row) or 0)}" for row in points],
            [row.file for row in points],
            look,
        )
        for (name, points), look in zip(groups.items(), looks, strict=True)
    ]
    y = log_axis(unit, [value(row) for row in drawn])
    return lines(slug, machine, series, _sizes_axis(drawn), y) if series else None


def _sizes_axis(rows: Iterable[Row]) -> dict[str, Any]:
    """Pixels on a logarithmic scale, marked with the sides of the sizes that were measured."""
    sides = {row.pixels: row.side for row in rows if row.pixels}
    marks: list[float] = []
    for pixels in sorted(sides):
        if not marks or pixels > _APART * marks[-1]:
            marks.append(pixels)
    return {
        "type": "log",
        "title": {"text": "longest side, px"},
        "tickvals": marks,
        "ticktext": [f"{sides[pixels]:g}" for pixels in marks],
    }


def _lines_of(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows that differ in nothing but their size, under the name that they share."""
    varying = [
        name
        for name in ("preset", "optimizer", "history", "pooling", "conditions")
        if len({row.text(name) for row in rows}) > 1
    ]
    groups: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row.rank, row.pixels or 0)):
        words = [row.text(name) for name in ("engine", "precision", *varying)]
        groups.setdefault(" ".join(filter(None, words)) or row.case.name, []).append(row)
    return groups


def roof_shares(slug: str, machine: str, rows: list[Row]) -> Chart | None:
    """The share of the measured roof at one size, a line of dots a kernel, layer and precision."""
    shared = [row for row in rows if row.case.roof_share is not None]
    shared.sort(key=kernel_name)
    kinds = {row.text("implementation"): None for row in sorted(shared, key=lambda row: row.rank)}
    series = []
    for kind in kinds:
        its = [
            (kernel_name(row), row.case.roof_share or 0, row.file)
            for row in shared
            if row.text("implementation") == kind
        ]
        series.append(
            Series(
                kind or "kernel",
                [100 * share for _, share, _ in its],
                [name for name, _, _ in its],
                [f"{kind} {name}: {percent(share)}" for name, share, _ in its],
                [file for _, _, file in its],
                {"marker": {"color": colour(kind), "size": 10}},
            )
        )
    most = max((row.case.roof_share or 0 for row in shared), default=0)
    axis = {"title": {"text": "% of roof"}, "dtick": 25, "range": [0, max(103, 103 * most)]}
    return dots(slug, _title(machine, shared), series, axis) if series else None


def kernel_name(row: Row) -> str:
    """``gram relu1_1 bf16``."""
    words = [row.text(name) for name in ("kernel", "layer", "precision", "conditions")]
    return " ".join(filter(None, words)) or row.case.name


def parts_of_iteration(slug: str, machine: str, rows: list[Row]) -> Chart | None:
    """Where an iteration's time goes at the usual size, parts stacked."""
    split = usual_size(row for row in rows if row.case.parts)[:_MOST_BARS]
    names = labels(split)
    series = []
    for index, part in enumerate(dict.fromkeys(part for row in split for part in row.case.parts)):
        its = [
            (name, row.case.parts[part], row.file)
            for name, row in zip(names, split, strict=True)
            if part in row.case.parts
        ]
        series.append(
            Series(
                part,
                [1e3 * seconds for _, seconds, _ in its],
                [name for name, _, _ in its],
                [f"{name}, {part}: {si(seconds, 's')}" for name, seconds, _ in its],
                [file for _, _, file in its],
                spare_look(index),
            )
        )
    axis = {"title": {"text": "ms an iteration"}, "rangemode": "tozero"}
    return bars(slug, _title(machine, split), series, axis) if series else None


def loss_curves(slug: str, machine: str, rows: list[Row]) -> Chart | None:
    """Loss, as the fp32 reference judges it, against seconds."""
    curved = [row for row in rows if row.case.curve]
    series = [
        Series(
            name,
            [point.seconds for point in row.case.curve],
            [point.loss for point in row.case.curve],
            [
                f"{name}, iteration {point.iteration}: {figure(point.loss)} "
                f"after {si(point.seconds, 's')}"
                for point in row.case.curve
            ],
            [row.file] * len(row.case.curve),
            {**look, "mode": "lines"},
        )
        for name, row, look in zip(labels(curved), curved, engine_lines(curved), strict=True)
    ]
    if not series:
        return None
    longest = max(max(each.x) for each in series)
    y = log_axis("loss", [point.loss for row in curved for point in row.case.curve])
    x = {"title": {"text": "seconds"}, "range": [0, 1.02 * longest]}
    starts = sorted({row.text("init") for row in curved} - {""})
    title = f"{machine}, from {' and '.join(starts)}" if starts else machine
    return lines(slug, title, [*series, *_target(curved, longest)], x, y)


def _target(rows: Iterable[Row], longest: float) -> list[Series]:
    """The loss that the reference has after its last mark, as a level line."""
    marks = [
        (int(found[1]), value, row.file)
        for row in rows
        for name, value in row.case.values.items()
        if (found := re.fullmatch(r"target_(\d+)", name)) and value > 0
    ]
    if not marks:
        return []
    iterations, loss, file = max(marks)
    name = f"reference after {iterations}"
    words = f"the reference's loss after {iterations} iterations: {figure(loss)}"
    look = {"mode": "lines", "line": {"color": GREY, "dash": "dot", "width": 1.5}}
    return [Series(name, [0, longest], [loss, loss], [words, words], [file, file], look)]


#: Values of the suite stylize -> what they are called.
RUNS = {
    "cold_seconds": "first run",
    "warm_seconds": "later runs, median",
    "first_iteration_seconds": "to the first iteration",
}


def whole_runs(slug: str, machine: str, rows: list[Row]) -> Chart | None:
    """Seconds from the shell to the saved image."""
    ordered = sorted(rows, key=lambda row: row.rank)
    series = []
    for index, (key, words) in enumerate(RUNS.items()):
        its = [(name, value, row) for name, row in zip(labels(ordered), ordered, strict=True)
               if (value := row.number(key)) is not None]  # fmt: skip
        if its:
            series.append(
                Series(
                    words,
                    [value for _, value, _ in its],
                    [name for name, _, _ in its],
                    [
                        f"{name}, {_run_words(row, key)}: {si(value, 's')}"
                        for name, value, row in its
                    ],
                    [row.file for _, _, row in its],
                    spare_look(index, size=10),
                )
            )
    axis = {"title": {"text": "seconds"}, "rangemode": "tozero"}
    return dots(slug, machine, series, axis) if series else None


def _run_words(row: Row, key: str) -> str:
    """What a time of the suite stylize is called, with the number of runs behind a median."""
    timing = row.case.timing
    if key != "warm_seconds" or timing is None:
        return RUNS[key]
    return f"median of {len(timing.samples)} later runs"


def _title(machine: str, rows: Sequence[Row]) -> str:
    size = rows[0].text("size") if rows else ""
    return f"{machine}, {size}" if size else machine
