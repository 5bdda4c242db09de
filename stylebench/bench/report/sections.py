"""The sections of the page: what each shows, and the command that fills it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from stylebench.bench.report import columns, plots, run_columns
from stylebench.bench.report.charts import Chart
from stylebench.bench.report.rows import Row, of_suite
from stylebench.bench.report.tables import Table


@dataclass(frozen=True)
class Section:
    """A heading, a line of what it says, charts, and the same numbers as tables.

    Attributes:
        id: its anchor.
        title: its heading.
        lead: one or two sentences.
        command: what would fill it, where it is empty.
        charts: one a machine, or a machine and size.
        tables: folded away below charts, open where there are none.
        lacking: that what the command measures is not there, though a table is.
    """

    id: str
    title: str
    lead: str
    command: str
    charts: list[Chart] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    lacking: bool = False

    @property
    def empty(self) -> bool:
        """Whether to say which command would fill it."""
        return self.lacking or not (self.charts or self.tables)


def sections(rows: Sequence[Row]) -> list[Section]:
    """All of them, in the order of the page."""
    return [
        _speed(rows),
        _sizes(rows),
        _roof(rows),
        _parts(rows),
        _memory(rows),
        _loss(rows),
        _runs(rows),
        _parity(rows),
    ]


def _found(*tables: Table | None) -> list[Table]:
    return [table for table in tables if table]


def _speed(rows: Sequence[Row]) -> Section:
    its = of_suite(rows, "iteration")
    return Section(
        "speed",
        "Iterations a second",
        "One iteration is one loss, one gradient and one step of the optimiser. Bars are at the "
        "size nearest to 512 px, with the ratio to the reference; the table has every size.",
        "stylebench bench iteration",
        plots.each_machine("speed", its, plots.rate_bars),
        _found(columns.speeds("Iterations", its)),
    )


def _sizes(rows: Sequence[Row]) -> Section:
    its = of_suite(rows, "sizes") or of_suite(rows, "iteration")
    return Section(
        "sizes",
        "Against size",
        "Both axes are logarithmic, and sizes lie as far apart as their pixels: a cost that grows "
        "with the pixels and no faster is a straight line.",
        "stylebench bench sizes",
        plots.each_machine("sizes", its, plots.rate_by_size),
        _found(columns.speeds("Iterations by size", its)),
    )


def _roof(rows: Sequence[Row]) -> Section:
    its = sorted(
        of_suite(rows, "kernels"),
        key=lambda row: (row.machine, row.pixels or 0, plots.kernel_name(row), row.rank),
    )
    sizes = dict.fromkeys(row.text("size") for row in its)
    return Section(
        "roof",
        "Kernels against the roof",
        "The roof is the copy or the matrix product that the same machine reached in the same run, "
        "whichever bounds the kernel.",
        "stylebench bench kernels",
        [
            chart
            for number, size in enumerate(sizes)
            for chart in _of_size(its, size, f"roof-{number}", plots.roof_shares)
        ],
        _found(columns.kernels(its), columns.roofs(rows)),
        lacking=not its,
    )


def _of_size(rows: Sequence[Row], size: str, slug: str, draw: plots.Draw) -> list[Chart]:
    """A chart a machine: two sizes on one would double its lines, and their names, on a phone."""
    return plots.each_machine(slug, [row for row in rows if row.text("size") == size], draw)


def _parts(rows: Sequence[Row]) -> Section:
    split = [row for row in rows if row.case.parts]
    its = of_suite(split, "iteration") or split  # another suite's would show each of them twice
    return Section(
        "parts",
        "Where an iteration's time goes",
        "At the size nearest to 512 px.",
        "stylebench bench iteration",
        plots.each_machine("parts", its, plots.parts_of_iteration),
        _found(columns.parts(its)),
    )


def _memory(rows: Sequence[Row]) -> Section:
    sizes = of_suite(rows, "sizes")
    its = sizes if any(row.case.peak_bytes for row in sizes) else of_suite(rows, "iteration")
    return Section(
        "memory",
        "Memory",
        "The most that an engine takes, its set-up included.",
        "stylebench bench sizes",
        plots.each_machine("memory", its, plots.memory_by_size),
        _found(columns.memory(its)),
    )


def _loss(rows: Sequence[Row]) -> Section:
    its = of_suite(rows, "time-to-loss")
    starts = sorted({row.text("init") for row in its})
    return Section(
        "loss",
        "Time to the reference's loss",
        "Every loss is judged by the fp32 reference, so that engines cannot flatter themselves. "
        "A percentage is how much more than the reference's loss is allowed.",
        "stylebench bench time-to-loss",
        [chart for start in starts for chart in _curves(its, start)],
        _found(run_columns.times_to_loss(its)),
    )


def _curves(rows: Sequence[Row], start: str) -> list[Chart]:
    """A chart a machine; losses from one start say nothing about those from another."""
    those = [row for row in rows if row.text("init") == start]
    return plots.each_machine(f"loss-{start}" if start else "loss", those, plots.loss_curves)


def _runs(rows: Sequence[Row]) -> Section:
    its = of_suite(rows, "stylize")
    return Section(
        "runs",
        "From the shell to the saved image",
        "Whole runs of the command, with the imports, the compilation and the writing.",
        "stylebench bench stylize",
        plots.each_machine("runs", its, plots.whole_runs),
        _found(run_columns.whole_runs(its)),
    )


def _parity(rows: Sequence[Row]) -> Section:
    its = of_suite(rows, "parity")
    return Section(
        "parity",
        "Parity",
        "What was compared with the oracle, and the check that came nearest to its limit. "
        "A case that fails has no time anywhere on this page.",
        "stylebench bench parity",
        tables=_found(columns.verdicts(its)),
    )
