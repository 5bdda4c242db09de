"""The README's table of results, generated from the records between two comments."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from stylebench.bench.records.store import load_records
from stylebench.bench.report.numbers import figure, percent, ratio, si
from stylebench.bench.report.rows import Row, gather, labels, of_suite, speed_up
from stylebench.bench.report.tables import verdict
from stylebench.image.files import atomic_path

BEGIN = "<!-- results: written by `make report` from results/, not by hand -->"
END = "<!-- end of results -->"
NONE = "No iterations recorded yet: `stylebench bench iteration` writes the first record."

_ENGINES = ("reference", "compiled", "fused")
_HEADINGS = ("machine", "size, px", "engine", "it/s", "an iteration", "against reference",
             "peak memory", "parity", "record")  # fmt: skip


def rewrite_readme(readme: Path, paths: Sequence[str | Path]) -> Path:
    """Put the table of the records below ``paths`` between the two comments of ``readme``.

    Raises:
        FileNotFoundError: ``readme`` or a path does not exist.
        ValueError: the comments are not there.
    """
    before, _, after = split_readme(readme)
    text = f"{before}{BEGIN}\n{results_table(paths, readme.parent)}\n{END}{after}"
    with atomic_path(readme) as partial:
        partial.write_text(text, "utf-8")
    return readme


def split_readme(readme: Path) -> tuple[str, str, str]:
    """What comes before the first comment, between the two, and after the second.

    Raises:
        ValueError: the comments are not there.
    """
    before, begin, rest = readme.read_text("utf-8").partition(BEGIN)
    between, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{readme}: expected the lines {BEGIN!r} and {END!r}")
    return before, between.strip("\n"), after


def results_table(paths: Sequence[str | Path], folder: Path) -> str:
    """The table in Markdown, with links to records relative to ``folder``.

    One row a machine, size, engine and precision; other settings are named where they differ.
    """
    stored, _ = load_records(*paths)
    its = of_suite(gather(stored), "iteration")
    rows = [row for row in its if row.text("engine") in _ENGINES]
    if not rows:
        return NONE
    lines = [_HEADINGS, ("---",) * len(_HEADINGS)]
    lines += [_line(row, name, its, folder) for row, name in zip(rows, _names(rows), strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _names(rows: Sequence[Row]) -> list[str]:
    # The size has its own column; what else differs is said beside the engine.
    return [
        name.replace(row.text("size"), "").replace("  ", " ").strip()
        for row, name in zip(rows, labels(rows), strict=True)
    ]


def _line(row: Row, name: str, rows: Sequence[Row], folder: Path) -> tuple[str, ...]:
    faster = speed_up(row, rows)
    link = os.path.relpath(row.stored.path.resolve(), folder.resolve()).replace(os.sep, "/")
    quick = ", quick" if row.stored.record.quick else ""
    cells = (
        row.machine,
        _ascii(row.text("size")),
        name,
        figure(row.rate) if row.rate else "-",
        _iteration(row),
        _ascii(ratio(faster)) if faster else "-",
        si(row.case.peak_bytes, "B") if row.case.peak_bytes else "-",
        verdict(row.case).text,
    )
    return (*map(_cell, cells), f"[{row.date}{quick}]({link})")


def _iteration(row: Row) -> str:
    """The median with its 95 % interval."""
    timing = row.case.timing
    if not row.rate or timing is None:
        return "-"
    return f"{si(1 / row.rate, 's')} \N{PLUS-MINUS SIGN} {percent(timing.spread)}"


def _ascii(text: str) -> str:
    return text.replace("\N{MULTIPLICATION SIGN}", "x")


def _cell(text: str) -> str:
    """Text that neither ends a cell nor is taken for HTML."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
