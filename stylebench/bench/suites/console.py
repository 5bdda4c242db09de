"""A suite run in the console: progress, a table, and the record in a file."""

from __future__ import annotations

import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from stylebench.bench.machine.probe import machine, missing_facts
from stylebench.bench.records.pictures import picture_file
from stylebench.bench.records.record import Record
from stylebench.bench.records.show import print_table, record_table
from stylebench.bench.records.store import (
    RecordError,
    as_text,
    file_name,
    read_record,
    write_record,
)
from stylebench.bench.records.writer import RecordWriter, open_writer
from stylebench.bench.suites import suite
from stylebench.bench.suites.base import Bench, Options
from stylebench.bench.suites.runner import Outcome, prepare
from stylebench.console import PlainConsole, stderr_console
from stylebench.files.paths import FileError


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

    Nothing is made before all is checked. Ctrl-C, SIGTERM and SIGHUP keep finished cases; where
    there is none, nothing is written or printed but one line. The code
    is 1 where a case failed or is wrong; a case that did not fit into memory is a result. One
    warning names the facts that the record will lack without the extra ``bench``.

    Raises:
        ValueError: unknown suite, an option or picture that cannot be, an ``output`` that cannot
            be written, or a record that this run cannot go on with.
        OSError: the record cannot be written any more; the message says where it is.
    """
    console = stderr_console()
    chosen = suite(name)
    options.check()
    before = _resumed(resume) if resume else None
    bench = Bench(options)
    bench.check_pictures()
    prepared = prepare(chosen, bench, before)
    if missing := missing_facts(bench.device):
        warnings.warn(missing, stacklevel=2)
    with _writer(output, bench, resume) as writer:
        if writer:
            bench.folder = writer.folder
        if resume and before and writer:
            _take_along(resume, before, writer.folder)
        outcome = prepared.run(console, _keeper(writer, console) if writer else None)
        record = outcome.record
        if not record.cases:
            console.print("ended before the first case: there is no record")
            return _code(outcome)
        if writer:
            path, record = _written(writer, record)
            console.print(str(path))
    if as_json:
        sys.stdout.write(as_text(record))
    else:
        print_table(record_table(record))
    return _code(outcome)


def _writer(
    output: Path | None, bench: Bench, resume: Path | None
) -> AbstractContextManager[RecordWriter | None]:
    if output is None:
        return nullcontext()
    return open_writer(output, machine(bench.device).slug, resume)


def _keeper(writer: RecordWriter, console: PlainConsole) -> Callable[[Record], object]:
    """Writes the record so far; a disk that is full now need not be so at the end."""

    def keep(record: Record) -> None:
        try:
            writer.write(record)
        except (OSError, FileError) as error:
            console.print(f"the record so far cannot be written: {error}")

    return keep


def _written(writer: RecordWriter, record: Record) -> tuple[Path, Record]:
    """The file of the whole record, and the record in it.

    Raises:
        OSError: it cannot be written where it was asked for; the message says where it is.
    """
    try:
        return writer.write(record)
    except (OSError, FileError) as error:
        folder = Path(tempfile.mkdtemp(prefix="stylebench-record-"))
        path = write_record(folder / Path(file_name(record)).name, record)
        raise OSError(f"{error}; the record is in {path}, without its pictures") from error


def _resumed(path: Path) -> Record:
    try:
        return read_record(path)
    except RecordError as error:
        raise ValueError(
            f"--resume {path}: no record that can be read here, so none to go on with ({error})"
        ) from error


def _take_along(path: Path, record: Record, folder: Path) -> None:
    """Copy the pictures of the record at ``path`` into ``folder``, this run's own."""
    for name in {name for case in record.cases for name in case.pictures.values()}:
        with suppress(OSError, FileError):  # a case is worth its time without its picture too
            shutil.copyfile(picture_file(path.parent, name), folder / Path(name).name)


def _code(outcome: Outcome) -> int:
    if outcome.interrupted:
        return 128 + outcome.signal
    return int(any(case.status in ("failed", "parity failed") for case in outcome.record.cases))
