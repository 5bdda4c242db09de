"""The charts and tables of every section of the page."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pandas as pd

from stylebench.bench.records.store import Stored
from stylebench.bench.report import plots
from stylebench.bench.report.charts import Chart
from stylebench.bench.report.frame import beside
from stylebench.bench.report.numbers import figure, percent, ratio, seconds, si
from stylebench.bench.report.tables import Column, Table, table

_COLUMNS = {
    column.title: column
    for column in (
        Column("machine", "machine"),
        Column("size, px", "size", sort="pixels"),
        Column("engine", "engine"),
        Column("precision", "precision"),
        Column("parity", "verdict"),
        Column("settings", "settings"),
        Column("record", "link"),
        Column("it/s", "rate", figure),
        Column("an iteration", "seconds", seconds),
        Column("\N{PLUS-MINUS SIGN}", "spread", percent),
        Column("against reference", "faster", ratio),
        Column("share of roof", "roof_share", percent),
        Column("build", "build", seconds),
        Column("first iteration", "first", seconds),
        Column("capture", "capture", seconds),
        Column("peak memory", "peak_bytes", lambda value: si(value, "B")),
        Column("of the reference's", "memory_share", percent),
        Column("kernel", "kernel"),
        Column("conditions", "overrides"),
        Column("layer", "layer"),
        Column("channels", "channels", lambda value: f"{value:g}"),
        Column("positions", "positions", lambda value: f"{value:,.0f}"),
        Column("implementation", "implementation"),
        Column("a launch", "seconds", seconds),
        Column("against eager", "against_eager", ratio),
        Column("moved", "moved", lambda value: si(value, "B/s")),
        Column("computed", "computed", lambda value: si(value, "FLOP/s")),
        Column("part", "part"),
        Column("time", "part_seconds", seconds),
        Column("share", "part_share", percent),
        *(Column(title, name, seconds) for name, title in plots.RUNS.items()),
        Column("nearest to its limit", "nearest"),
        Column("of the limit", "used", percent),
        Column("PSNR, dB", "psnr", figure),
        Column("against", "oracle"),
        Column("roof", "roof"),
        Column("reached", "reached", sort="value"),
    )
}


def _columns(*titles: str) -> list[Column]:
    return [_COLUMNS[title] for title in titles]


_WHO, _PROOF = ("machine", "size, px", "engine", "precision"), ("settings", "record")
_SPEED = _columns(
    *_WHO, "it/s", "parity", "an iteration", "\N{PLUS-MINUS SIGN}", "against reference",
    "share of roof", "build", "first iteration", "capture", *_PROOF,
)  # fmt: skip
_MEMORY = _columns(*_WHO, "peak memory", "of the reference's", *_PROOF)
_KERNELS = _columns(
    "machine", "kernel", "conditions", "layer", "size, px", "channels", "positions", "precision",
    "implementation", "a launch", "against eager", "share of roof", "moved", "computed", "parity",
    "record",
)  # fmt: skip
_PARTS = _columns(*_WHO, "part", "time", "share", *_PROOF)
_RUNS = _columns(*_WHO, *plots.RUNS.values(), "parity", *_PROOF)
_VERDICTS = _columns(
    *_WHO, "parity", "nearest to its limit", "of the limit", "PSNR, dB", "against", *_PROOF
)
_ROOFS = _columns("machine", "roof", "reached", "record")
_LOSS = "Seconds until the loss that the reference has after so many iterations"
_REACHED = re.compile(r"seconds_to_(\d+)(?:_plus_([\d.]+)_percent)?")
_SUITES = ("iteration", "sizes", "kernels", "time-to-loss", "stylize", "parity")


class Section(NamedTuple):
    """The contents of one section; its words are in the template.

    Attributes:
        charts: one a machine, or a machine and size or start.
        tables: the same numbers, folded away below charts, open where there are none.
        lacking: whether nothing that the section is about was measured.
    """

    charts: list[Chart]
    tables: list[Table]
    lacking: bool


def sections(frame: pd.DataFrame, stored: Sequence[Stored]) -> dict[str, Section]:
    """Anchor -> section.

    Args:
        frame: of ``page_frame``.
        stored: the records that it was made of.
    """
    suites = {name: frame[frame["suite"] == name] for name in _SUITES}
    iteration, (loss, marks) = suites["iteration"], _times_to_loss(suites["time-to-loss"])
    sizes = _first(suites["sizes"], iteration)
    memory = _first(*(rows[rows["peak_bytes"] > 0] for rows in (suites["sizes"], iteration)))
    parts = _first(plots.parts_of(iteration), plots.parts_of(frame))
    launches = suites["kernels"].assign(kind=plots.kernel_names)
    launches = launches.sort_values(["machine", "pixels", "kind", "rank"], na_position="first")
    kernels = _section(launches, "Kernels", _KERNELS, plots.roof_shares, "size")
    return {
        "speed": _section(iteration, "Iterations", _SPEED, plots.rate_bars),
        "sizes": _section(sizes, "Iterations by size", _SPEED, plots.rate_by_size),
        "roof": kernels._replace(tables=kernels.tables + _roofs(frame, stored)),
        "parts": _section(parts, "Parts of an iteration", _PARTS, plots.parts_of_iteration),
        "memory": _section(memory, "Peak memory", _MEMORY, plots.memory_by_size),
        "loss": _section(loss, _LOSS, marks, plots.loss_curves, "init"),
        "runs": _section(
            suites["stylize"], "From the shell to the saved image", _RUNS, plots.whole_runs
        ),
        "parity": _section(suites["parity"], "Parity by case", _VERDICTS),
    }


def _first(*candidates: pd.DataFrame) -> pd.DataFrame:
    """The first that has rows; the last where none has."""
    return next((rows for rows in candidates if len(rows)), candidates[-1])


def _section(
    rows: pd.DataFrame,
    caption: str,
    columns: Sequence[Column],
    draw: Callable[[pd.DataFrame], Chart | None] | None = None,
    by: str = "machine",
) -> Section:
    """``rows`` as a table, and drawn for each machine and each value of ``by``."""
    parts = [part for _, part in rows.groupby(["machine", by], sort=False)] if draw else []
    charts = [chart for part in parts if draw and (chart := draw(part))]
    return Section(charts, table(caption, columns, rows), rows.empty)


def _roofs(frame: pd.DataFrame, stored: Sequence[Stored]) -> list[Table]:
    """The measured roofs of every record that the rows come from."""
    lines = [
        {
            "machine": row["machine"],
            "roof": " ".join(filter(None, (roof.what, roof.precision, size))),
            "reached": si(roof.value, roof.unit),
            "value": roof.value,
            "link": row["link"],
        }
        for row in frame.drop_duplicates("record").to_dict("records")
        for roof in stored[row["record"]].record.roofs
        for size in [f"{roof.width} x {roof.height}" if roof.width and roof.height else ""]
    ]
    return table("Measured roofs", _ROOFS, pd.DataFrame(lines))


def _times_to_loss(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[Column]]:
    """Columns of seconds until the loss that the reference has after so many iterations.

    For the last such loss there is also how many times sooner it is reached than by the reference
    engine that ran beside it from the same start.
    """
    names = map(str, rows.dropna(axis="columns", how="all"))
    matches = map(_REACHED.fullmatch, names)
    marks = sorted((int(match[1]), match[2] or "", match[0]) for match in matches if match)
    reached, sooner = [], []
    for iterations, slack, name in marks:
        title = f"{iterations} + {slack} %" if slack else f"{iterations}"
        reached.append(Column(f"to loss at {title}", name, seconds))
        if iterations == marks[-1][0]:
            theirs = rows[rows["engine"] == "reference"].sort_values(name)
            sooner.append(Column(f"sooner than reference, {title}", f"sooner {name}", ratio))
            ratios = beside(rows, theirs, ["record", "init"], name) / rows[name]
            rows = rows.assign(**{f"sooner {name}": ratios})
    who, proof = _columns("machine", "engine", "precision"), _columns("parity", *_PROOF)
    return rows, [*who, *reached, *sooner, *proof]
