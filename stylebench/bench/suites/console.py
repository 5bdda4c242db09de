"""A suite that a person watches: progress, a table, and the record in a file."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from rich.console import Console
from rich.table import Table

from stylebench.bench.machine.probe import machine
from stylebench.bench.records.rebuild import unfinished
from stylebench.bench.records.record import Case, Record
from stylebench.bench.records.store import as_text
from stylebench.bench.records.writer import Shelf, opened
from stylebench.bench.suites import suite
from stylebench.bench.suites.base import Bench, Options
from stylebench.bench.suites.runner import Outcome, duration, run_suite
from stylebench.transfer.device import choose_device

_INTERRUPTED = 130
_LINE = 160


def run_visibly(
    name: str,
    options: Options,
    output: Path | None,
    as_json: bool,
    resume: Path | None = None,
) -> int:
    """Run a suite for the command line; return the exit code.

    Args:
        name: of the suite.
        options: for it.
        output: folder of results, written after every job; None keeps nothing.
        as_json: print the record, not a table.
        resume: an incomplete record to go on with.

    Without ``output`` nothing is kept but what is printed, and no pictures are made. Ctrl-C keeps
    finished cases. The code is 1 where a case failed or is wrong; one that did not fit into memory
    is a result.

    Raises:
        ValueError: unknown suite, an ``output`` that cannot be written, or a record that this run
            cannot go on with.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    chosen = suite(name)
    before = _unfinished(resume) if resume else None
    with _shelf(output, options, resume) as shelf:
        bench = Bench(options, shelf.folder if shelf else None)
        if resume and before and shelf:
            _take_along(resume, before, shelf.folder)
        outcome = run_suite(chosen, bench, console, before, shelf.put if shelf else None)
        record = outcome.record
        if shelf:
            path, record = shelf.put(record)
            console.print(str(path))
    if as_json:
        sys.stdout.write(as_text(record))
    else:
        show(table(record))
    return _code(outcome)


def _shelf(
    output: Path | None, options: Options, resume: Path | None
) -> AbstractContextManager[Shelf | None]:
    if output is None:
        return nullcontext()
    return opened(output, machine(choose_device(options.device)).slug, resume)


def _unfinished(path: Path) -> Record:
    record = unfinished(path)
    if record is None:
        raise ValueError(f"{path}: no record that this version can go on with")
    return record


def _take_along(path: Path, record: Record, folder: Path) -> None:
    """Copy the pictures of the record at ``path``, so that this run's has them wherever it lies."""
    pictures = {Path(name) for case in record.cases for name in case.pictures.values()}
    for picture in pictures:
        kept = path.parent / picture.parent.name / picture.name
        if kept.is_file():
            shutil.copyfile(kept, folder / picture.name)


def show(printed: Table) -> None:
    """Print a table; what is no terminal has room for the longest names."""
    width = None if sys.stdout.isatty() else _LINE
    Console(highlight=False, width=width).print(printed)


def table(record: Record) -> Table:
    """A record for people."""
    mark = "" if record.complete else ", incomplete"
    shown = Table(title=f"{record.suite} on {record.machine.name}{mark}")
    for heading in ("case", "median", "+-", "rate", "roof", "peak", "parity", ""):
        shown.add_column(heading, justify="left" if heading in ("case", "") else "right")
    for case in record.cases:
        shown.add_row(case.name, *_figures(case))
    return shown


def _figures(case: Case) -> Iterable[str]:
    timing = case.timing
    remark = case.note or ""
    if case.status == "ok" and timing is None:
        remark = ", ".join(f"{name} {value:.4g}" for name, value in list(case.values.items())[:3])
    elif case.status != "ok":
        remark = f"{case.status}: {remark}"
    return (
        duration(timing.median) if timing else "",
        f"{100 * timing.spread:.1f} %" if timing else "",
        f"{1 / timing.median:.4g}/s" if timing else "",
        "" if case.roof_share is None else f"{100 * case.roof_share:.0f} %",
        "" if case.peak_bytes is None else f"{case.peak_bytes / 2**20:.0f} MiB",
        "" if case.parity is None else ("ok" if case.parity.passed else "FAIL"),
        remark,
    )


def _code(outcome: Outcome) -> int:
    if outcome.interrupted:
        return _INTERRUPTED
    return int(any(case.status in ("failed", "parity failed") for case in outcome.record.cases))
