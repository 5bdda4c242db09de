"""A suite that a person watches: progress, a table, and the record in a file."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from stylebench.bench.rebuild import unfinished
from stylebench.bench.record import Case, Record
from stylebench.bench.runner import Outcome, duration, run_suite
from stylebench.bench.store import as_text, file_name, write_record
from stylebench.bench.suite import Bench, Options
from stylebench.bench.suites import suite

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

    Without ``output`` nothing is kept but what is printed. Ctrl-C keeps finished cases. The code
    is 1 where a case failed or is wrong; one that did not fit into memory is a result.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    chosen = suite(name)
    holder = nullcontext(str(output)) if output else tempfile.TemporaryDirectory()
    with holder as folder:
        # Where pictures go depends on the machine and the day, which the record knows.
        bench = Bench(options, Path(folder) / ".pictures")
        before = _unfinished(resume, bench) if resume else None

        def keep(record: Record) -> None:
            if output:
                store(output, record, bench)

        outcome = run_suite(chosen, bench, console, before, keep)
        record = outcome.record
        if output:
            path, record = store(output, record, bench)
            console.print(str(path))
    if as_json:
        sys.stdout.write(as_text(record))
    else:
        show(table(record))
    return _code(outcome)


def store(output: Path, record: Record, bench: Bench) -> tuple[Path, Record]:
    """Write ``record`` below ``output`` and its pictures into a folder beside it, named like it."""
    path = output / file_name(record)
    target = path.with_suffix("")
    if bench.folder and bench.folder.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        for picture in bench.folder.iterdir():
            picture.replace(target / picture.name)
        bench.folder.rmdir()
    cases = [_with_pictures_in(target.name, case) for case in record.cases]
    record = replace(record, cases=cases)
    return write_record(path, record), record


def _unfinished(path: Path, bench: Bench) -> Record:
    """The record at ``path``; its pictures become this run's, wherever that will write."""
    record = unfinished(path)
    if record is None:
        raise ValueError(f"{path}: no record that this version can go on with")
    pictures = {Path(name) for case in record.cases for name in case.pictures.values()}
    for picture in pictures:
        kept = path.parent / picture.parent.name / picture.name
        if bench.folder and kept.is_file():
            bench.folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(kept, bench.folder / picture.name)
    return record


def _with_pictures_in(folder: str, case: Case) -> Case:
    pictures = {key: f"{folder}/{Path(name).name}" for key, name in case.pictures.items()}
    return replace(case, pictures=pictures)


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
