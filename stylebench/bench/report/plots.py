"""The charts: which cases each of them draws, and against what; one chart a machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from stylebench.bench.report.charts import (
    Chart,
    Series,
    bars,
    dots,
    engine_line,
    lines,
    spare_look,
)
from stylebench.bench.report.numbers import figure, percent, ratio, si
from stylebench.bench.report.palette import colour
from stylebench.bench.report.rows import (
    Row,
    by_machine,
    labels,
    reference_of,
    speed_up,
    usual_size,
)

Draw = Callable[[str, str, list[Row]], Chart | None]

_PIXELS = {"type": "log", "title": {"text": "pixels"}, "tickformat": "~s", "dtick": "D2"}
_MOST_BARS = 16


def each_machine(id: str, rows: Iterable[Row], draw: Draw) -> list[Chart]:
    """``draw`` applied to every machine's rows; machines with nothing to draw are left out."""
    drawn = [
        draw(f"{id}-{number}", machine, its_rows)
        for number, (machine, its_rows) in enumerate(by_machine(rows).items())
    ]
    return [chart for chart in drawn if chart]


def rate_bars(id: str, machine: str, rows: list[Row]) -> Chart | None:
    """Iterations a second at the usual size, fastest first, beside the ratio to the reference."""
    timed = usual_size(row for row in rows if row.rate)
    timed = sorted(timed, key=lambda row: -(row.rate or 0))[:_MOST_BARS]
    if not timed:
        return None
    rates = [row.rate or 0 for row in timed]
    series = Series(
        "it/s", rates, labels(timed), [_rate_words(row, rows) for row in timed],
        {"marker": {"color": [colour(row.text("engine")) for row in timed]}},
    )  # fmt: skip
    # Room to the right of the longest bar for its words.
    axis = {"title": {"text": "it/s"}, "range": [0, 1.55 * max(rates)], "nticks": 6}
    return bars(id, _title(machine, timed), [series], axis, text=True)


def _rate_words(row: Row, rows: Iterable[Row]) -> str:
    words = f"{figure(row.rate or 0)} it/s"
    faster = None if row is reference_of(row, rows) else speed_up(row, rows)
    return words if faster is None else f"{words}, {ratio(faster)}"


def rate_by_size(id: str, machine: str, rows: list[Row]) -> Chart | None:
    """Iterations a second against pixels, both logarithmic."""
    y = {"type": "log", "title": {"text": "it/s"}, "tickformat": "~g", "dtick": "D2"}
    return _by_size(id, machine, rows, lambda row: row.rate, lambda v: f"{figure(v)} it/s", y)


def memory_by_size(id: str, machine: str, rows: list[Row]) -> Chart | None:
    """Peak memory against pixels, both logarithmic."""
    y = {"type": "log", "title": {"text": "peak memory, B"}, "tickformat": "~s", "dtick": "D2"}
    return _by_size(id, machine, rows, lambda row: row.case.peak_bytes, lambda v: si(v, "B"), y)


def _by_size(
    id: str,
    machine: str,
    rows: list[Row],
    value: Callable[[Row], float | None],
    spell: Callable[[float], str],
    y: dict[str, object],
) -> Chart | None:
    drawn = [row for row in rows if row.pixels and value(row)]
    # Named over all of them at once, so that a line's name is the same at every size.
    series = []
    for name, points in _lines_of(drawn).items():
        points = sorted(points, key=lambda row: row.pixels or 0)
        series.append(
            Series(
                name,
                [row.pixels for row in points],
                [value(row) for row in points],
                [f"{name}, {row.text('size')}: {spell(value(row) or 0)}" for row in points],
                engine_line(points[0]),
            )
        )
    return lines(id, machine, series, _PIXELS, y) if series else None


def _lines_of(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows that differ in nothing but their size, under the name that they share."""
    varying = [
        name
        for name in ("preset", "optimizer", "history", "pooling")
        if len({row.text(name) for row in rows}) > 1
    ]
    groups: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.rank):
        words = [row.text(name) for name in ("engine", "precision", *varying)]
        groups.setdefault(" ".join(filter(None, words)) or row.case.name, []).append(row)
    return groups


def roof_shares(id: str, machine: str, rows: list[Row]) -> Chart | None:
    """The share of the measured roof, a line of dots for each kernel, layer and precision."""
    shared = [row for row in rows if row.case.roof_share is not None]
    shared.sort(key=lambda row: (row.text("kernel"), row.text("layer"), row.text("precision")))
    kinds = {row.text("implementation"): None for row in sorted(shared, key=lambda row: row.rank)}
    series = []
    for kind in kinds:
        its = [row for row in shared if row.text("implementation") == kind]
        series.append(
            Series(
                kind or "kernel",
                [100 * (row.case.roof_share or 0) for row in its],
                [kernel_name(row) for row in its],
                [f"{kind} {kernel_name(row)}: {percent(row.case.roof_share or 0)}" for row in its],
                {"marker": {"color": colour(kind), "size": 10}},
            )
        )
    most = max((row.case.roof_share or 0 for row in shared), default=0)
    axis = {"title": {"text": "% of the measured roof"}, "range": [0, max(103, 103 * most)]}
    return dots(id, machine, series, axis) if series else None


def kernel_name(row: Row) -> str:
    """``gram relu1_1 bf16``."""
    words = [row.text(name) for name in ("kernel", "layer", "precision")]
    return " ".join(filter(None, words)) or row.case.name


def parts_of_iteration(id: str, machine: str, rows: list[Row]) -> Chart | None:
    """Where an iteration's time goes at the usual size, parts stacked."""
    split = usual_size(row for row in rows if row.case.parts)[:_MOST_BARS]
    names = labels(split)
    series = []
    for index, part in enumerate(dict.fromkeys(part for row in split for part in row.case.parts)):
        its = [(name, row.case.parts[part]) for name, row in zip(names, split, strict=True)
               if part in row.case.parts]  # fmt: skip
        series.append(
            Series(
                part,
                [1e3 * seconds for _, seconds in its],
                [name for name, _ in its],
                [f"{name}, {part}: {si(seconds, 's')}" for name, seconds in its],
                spare_look(index),
            )
        )
    axis = {"title": {"text": "ms an iteration"}, "rangemode": "tozero"}
    return bars(id, _title(machine, split), series, axis) if series else None


def loss_curves(id: str, machine: str, rows: list[Row]) -> Chart | None:
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
            {**engine_line(row), "mode": "lines"},
        )
        for name, row in zip(labels(curved), curved, strict=True)
    ]
    x = {"title": {"text": "seconds"}, "rangemode": "tozero"}
    y = {"type": "log", "title": {"text": "loss"}, "exponentformat": "power", "dtick": "D2"}
    return lines(id, machine, series, x, y) if series else None


#: Values of the suite stylize -> what they are called.
RUNS = {
    "cold_seconds": "first run",
    "warm_seconds": "second run",
    "first_iteration_seconds": "to the first iteration",
}


def whole_runs(id: str, machine: str, rows: list[Row]) -> Chart | None:
    """Seconds from the shell to the saved image."""
    ordered = sorted(rows, key=lambda row: row.rank)
    series = []
    for index, (key, words) in enumerate(RUNS.items()):
        its = [(name, value) for name, row in zip(labels(ordered), ordered, strict=True)
               if (value := row.number(key)) is not None]  # fmt: skip
        if its:
            series.append(
                Series(
                    words,
                    [value for _, value in its],
                    [name for name, _ in its],
                    [f"{name}, {words}: {si(value, 's')}" for name, value in its],
                    spare_look(index, size=10),
                )
            )
    axis = {"title": {"text": "seconds"}, "rangemode": "tozero"}
    return dots(id, machine, series, axis) if series else None


def _title(machine: str, rows: Sequence[Row]) -> str:
    size = rows[0].text("size") if rows else ""
    return f"{machine}, {size}" if size else machine

