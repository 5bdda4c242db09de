"""The charts of one machine: the rows that each draws, and against what."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd

from stylebench.bench.report.charts import Axis, Chart, Looks, bars, dots, escaped, lines, log_axis
from stylebench.bench.report.frame import labels, names, usual_size
from stylebench.bench.report.numbers import figure, percent, ratio, si
from stylebench.bench.report.palette import GREY, SPARE, color, line_styles

_MOST_BARS = 16
_APART = 1.5  # times the pixels; sizes nearer to each other than this would have overlapping marks

#: Columns of the suite stylize -> what they are called.
RUNS = {
    "cold_seconds": "first run",
    "warm_seconds": "later runs, median",
    "first_iteration_seconds": "to the first iteration",
}


def _title(rows: pd.DataFrame, more: str = "size") -> str:
    return ", ".join(filter(None, rows.iloc[0][["machine", more]]))


def _tuples(rows: pd.DataFrame) -> Iterable[Any]:
    return rows.itertuples()


def _words(spell: Callable[[Any], str], rows: pd.DataFrame) -> list[str]:
    return [spell(row) for row in _tuples(rows)]


def _spare(points: pd.DataFrame, **marker: Any) -> Looks:
    """Looks of series that are no engine."""
    series = enumerate(points["series"].unique())
    return {name: {"marker": {"color": SPARE[i % len(SPARE)], **marker}} for i, name in series}


def _engine_lines(rows: pd.DataFrame, mode: str) -> Looks:
    """Looks of the lines that ``rows`` begin: color for the engine, dash and symbol for more."""
    rows = rows.drop_duplicates("series")
    styles = line_styles(list(zip(rows["engine"], rows["precision"], strict=True)))
    return {
        row.series: {
            "mode": mode,
            "line": {"color": color(row.engine), "dash": dash, "width": 2},
            "marker": {"color": color(row.engine), "symbol": symbol, "size": 7},
        }
        for row, (dash, symbol) in zip(_tuples(rows), styles, strict=True)
    }


def rate_bars(rows: pd.DataFrame) -> Chart | None:
    """Iterations a second at the usual size, fastest first, beside the ratio to the reference."""

    def words(row: Any) -> str:
        alone = row.anchor == row.reference or pd.isna(row.faster)
        return figure(row.rate) + ("" if alone else f", {ratio(row.faster)}")

    timed = usual_size(rows[rows["rate"] > 0]).nlargest(_MOST_BARS, "rate")
    if timed.empty:
        return None
    points = timed.assign(x=timed["rate"], y=labels(timed), words=_words(words, timed), series="")
    look = {"marker": {"color": [color(name) for name in timed["engine"]]},
            "text": [*map(escaped, points["words"])], "textposition": "outside"}  # fmt: skip
    # Room to the right of the longest bar for its words.
    axis = {"title": {"text": "it/s"}, "range": [0, 1.6 * timed["rate"].max()], "nticks": 6}
    return bars(_title(timed), points, {"": look}, axis)


def rate_by_size(rows: pd.DataFrame) -> Chart | None:
    """Iterations a second against pixels, both logarithmic."""
    return _by_size(rows, "rate", lambda value: f"{figure(value)} it/s", "it/s")


def memory_by_size(rows: pd.DataFrame) -> Chart | None:
    """Peak memory against pixels, both logarithmic."""
    return _by_size(rows, "peak_bytes", lambda value: si(value, "B"), "peak memory, B")


def _by_size(
    rows: pd.DataFrame, column: str, spell: Callable[[float], str], unit: str
) -> Chart | None:
    drawn = rows[(rows["pixels"] > 0) & (rows[column] > 0)].sort_values(["rank", "pixels"])
    if drawn.empty:
        return None
    # Named over all of them at once, so that a line's name is the same at every size.
    varying = ("preset", "optimizer", "history", "pooling", "tile", "overrides")
    points = drawn.assign(x=drawn["pixels"], y=drawn[column], series=names(drawn, varying=varying))
    points["words"] = _words(lambda row: f"{row.series}, {row.size}: {spell(row.y)}", points)
    looks = _engine_lines(points, "lines+markers")
    return lines(
        rows.iloc[0]["machine"], points, looks, _sizes_axis(drawn), log_axis(unit, points["y"])
    )


def _sizes_axis(rows: pd.DataFrame) -> Axis:
    """Pixels on a logarithmic scale, marked with the sides of the sizes that were measured."""
    sides = dict(zip(rows["pixels"], rows["side"], strict=True))
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


def roof_shares(rows: pd.DataFrame) -> Chart | None:
    """The share of the measured roof at one size, a row of dots a kernel, layer and precision."""
    shared = rows[rows["roof_share"].notna()]
    if shared.empty:
        return None
    kinds = shared["implementation"].replace("", "kernel")
    points = shared.assign(x=100 * shared["roof_share"], y=kernel_names(shared), series=kinds)
    points = points.sort_values(["rank", "y"])
    points["words"] = _words(lambda row: f"{row.series} {row.y}: {percent(row.roof_share)}", points)
    looks = {kind: {"marker": {"color": color(kind), "size": 10}} for kind in kinds}
    limit = max(103.0, 1.03 * points["x"].max())
    axis = {"title": {"text": "% of roof"}, "dtick": 25, "range": [0, limit]}
    return dots(_title(shared), points, looks, axis)


def kernel_names(rows: pd.DataFrame) -> list[str]:
    """``gram relu1_1 bf16`` for each row."""
    return names(rows, ("kernel", "layer", "precision", "overrides"), ())


def parts_of(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a part of an iteration: ``part``, ``part_seconds``, ``part_share`` of the whole."""
    split = rows.assign(part=rows["parts"].map(list))
    split = split.explode("part").dropna(subset="part")
    pairs = zip(split["part"], split["parts"], strict=True)
    seconds = pd.Series([parts[name] for name, parts in pairs], split.index, dtype=float)
    whole = split["parts"].map(lambda parts: sum(parts.values()) or 1.0)
    return split.assign(part_seconds=seconds, part_share=seconds / whole)


def parts_of_iteration(rows: pd.DataFrame) -> Chart | None:
    """Parts of an iteration's time at the usual size, stacked; ``rows`` from ``parts_of``."""
    cases = usual_size(rows.drop_duplicates("anchor")).head(_MOST_BARS)
    named = dict(zip(cases["anchor"], labels(cases), strict=True))
    points = rows[rows["anchor"].isin(named)]
    points = points.assign(
        x=1e3 * points["part_seconds"], y=points["anchor"].map(named), series=points["part"]
    )
    points["words"] = _words(lambda p: f"{p.y}, {p.part}: {si(p.part_seconds, 's')}", points)
    axis = {"title": {"text": "ms an iteration"}, "rangemode": "tozero"}
    return bars(_title(cases), points, _spare(points), axis)


def loss_curves(rows: pd.DataFrame) -> Chart | None:
    """Loss, as the fp32 reference judges it, against seconds."""
    curved = rows[rows["curve"].astype(bool)]
    if curved.empty:
        return None
    points = curved.assign(series=labels(curved)).explode("curve")
    points["x"] = [float(point.seconds) for point in points["curve"]]
    points["y"] = [float(point.loss) for point in points["curve"]]
    points["words"] = _words(
        lambda row: (
            f"{row.series}, iteration {row.curve.iteration}: {figure(row.y)} after {si(row.x, 's')}"
        ),
        points,
    )
    longest = points["x"].max()
    y = log_axis("loss", points["y"])
    x = {"title": {"text": "seconds"}, "range": [0, 1.02 * longest]}
    looks = dict(_engine_lines(points, "lines"))
    if targets := _targets(curved):
        iterations, loss, file = max(targets)
        name = f"reference after {iterations}"
        words = f"the reference's loss after {iterations} iterations: {figure(loss)}"
        level = {"x": [0.0, longest], "y": loss, "series": name, "words": words, "file": file}
        points = pd.concat([points[list(level)], pd.DataFrame(level)])
        looks[name] = {"mode": "lines", "line": {"color": GREY, "dash": "dot", "width": 1.5}}
    return lines(_title(curved, "init"), points, looks, x, y)


def _targets(rows: pd.DataFrame) -> list[tuple[int, float, str]]:
    """Iterations, the reference's loss after them, and the record, of every mark."""
    marks = rows.filter(regex=r"^target_\d+$")
    return [
        (int(name.removeprefix("target_")), loss, file)
        for name in map(str, marks)
        for loss, file in zip(marks[name], rows["file"], strict=True)
        if loss > 0
    ]


def whole_runs(rows: pd.DataFrame) -> Chart | None:
    """Seconds from the shell to the saved image."""
    points = rows.sort_values("rank", kind="stable").assign(y=labels)
    points = points.melt(["y", "file", "sample_count"], [*RUNS], "run", "x").dropna(subset="x")
    if points.empty:
        return None
    points["series"] = points["run"].map(RUNS)
    points["words"] = _words(lambda row: f"{row.y}, {_run_words(row)}: {si(row.x, 's')}", points)
    axis = {"title": {"text": "seconds"}, "rangemode": "tozero"}
    return dots(rows.iloc[0]["machine"], points, _spare(points, size=10), axis)


def _run_words(row: Any) -> str:
    median = row.run == "warm_seconds" and row.sample_count
    return f"median of {row.sample_count} later runs" if median else RUNS[row.run]
