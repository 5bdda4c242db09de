"""A suite run in the console: progress, a table, and the record in a file."""

from __future__ import annotations

import shutil
import sys
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from rich.console import Console

from stylebench.bench.machine.probe import machine, missing_facts
from stylebench.bench.records.record import Record
from stylebench.bench.records.show import print_table, record_table
from stylebench.bench.records.store import as_text, read_or_none
from stylebench.bench.records.writer import RecordWriter, open_writer
from stylebench.bench.suites import suite
from stylebench.bench.suites.base import Bench, Options
from stylebench.bench.suites.runner import Outcome, run_suite
from stylebench.transfer.device import choose_device

_INTERRUPTED = 130


def run_suite_in_console(
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
        output: folder of results, written after every job; None keeps no file and no pictures.
        as_json: print the record, not a table.
        resume: an incomplete record to go on with.

    Ctrl-C keeps finished cases. The code is 1 where a case failed or is wrong; a case that did not
    fit into memory is a result. One warning names the facts that the record will lack without the
    extra ``bench``.

    Raises:
        ValueError: unknown suite, an ``output`` that cannot be written, or a record that this run
            cannot go on with.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    chosen = suite(name)
    before = _resumed(resume) if resume else None
    if missing := missing_facts(choose_device(options.device)):
        warnings.warn(missing, stacklevel=2)
    with _writer(output, options, resume) as writer:
        bench = Bench(options, writer.folder if writer else None)
        if resume and before and writer:
            _take_along(resume, before, writer.folder)
        outcome = run_suite(chosen, bench, console, before, writer.write if writer else None)
        record = outcome.record
        if writer:
            path, record = writer.write(record)
            console.print(str(path))
    if as_json:
        sys.stdout.write(as_text(record))
    else:
        print_table(record_table(record))
    return _code(outcome)


def _writer(
    output: Path | None, options: Options, resume: Path | None
) -> AbstractContextManager[RecordWriter | None]:
    if output is None:
        return nullcontext()
    return open_writer(output, machine(choose_device(options.device)).slug, resume)


def _resumed(path: Path) -> Record:
    record = read_or_none(path)
    if record is None:
        raise ValueError(f"{path}: no record that can be read here, so none to go on with")
    return record


def _take_along(path: Path, record: Record, folder: Path) -> None:
    """Copy the pictures of the record at ``path`` into ``folder``, this run's own."""
    pictures = {Path(name) for case in record.cases for name in case.pictures.values()}
    for picture in pictures:
        kept = path.parent / picture.parent.name / picture.name
        if kept.is_file():
            shutil.copyfile(kept, folder / picture.name)


def _code(outcome: Outcome) -> int:
    if outcome.interrupted:
        return _INTERRUPTED
    return int(any(case.status in ("failed", "parity failed") for case in outcome.record.cases))
