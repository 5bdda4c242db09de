"""Runs a suite to a record: shows progress, outlives failing cases, keeps finished ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatch

from stylebench import signals
from stylebench.bench.machine.probe import finished, machine
from stylebench.bench.machine.provenance import code, software
from stylebench.bench.measure.memory import release
from stylebench.bench.records.record import Case, Record
from stylebench.bench.records.resume import check_resumable
from stylebench.bench.records.show import summary
from stylebench.bench.suites.base import Bench, Job, Options, Suite, isolate
from stylebench.console import PlainConsole


@dataclass(frozen=True)
class Outcome:
    """A record, and the signal that ended it early, as Ctrl-C's; 0 where none did."""

    record: Record
    signal: int = 0

    @property
    def interrupted(self) -> bool:
        """Whether a signal ended it."""
        return bool(self.signal)


def run_suite(
    suite: Suite,
    bench: Bench,
    console: PlainConsole | None = None,
    before: Record | None = None,
    keep: Callable[[Record], object] | None = None,
) -> Outcome:
    """Run ``suite``: ``prepare`` it, and run what is prepared.

    Raises:
        ValueError: as ``prepare``.
    """
    return prepare(suite, bench, before).run(console, keep)


def prepare(suite: Suite, bench: Bench, before: Record | None = None) -> Prepared:
    """The cases of ``suite`` that are to be run; nothing is measured or written yet.

    Args:
        suite: the jobs to run.
        bench: what they work with.
        before: an unfinished record of the same suite, whose cases are not run again.

    Raises:
        ValueError: the filter matches no case, and the message names them; or ``before`` is
            complete, or of another run than this.
    """
    run = _Run(suite, bench)
    jobs = list(suite.jobs(bench))
    if before:
        cases = {name: case for job in jobs for name, case in job.cases.items()}
        check_resumable(before, run.record(complete=False), cases)
        run.resume(before)
    return Prepared(suite.name, bench, run, wanted(suite, bench.options, jobs))


def wanted(suite: Suite, options: Options, jobs: Sequence[Job]) -> list[tuple[Job, list[str]]]:
    """The jobs of ``suite`` that ``options`` want, each with the names of its cases that they want.

    Raises:
        ValueError: the filter matches no case; the message names them.
    """
    jobs = jobs[: options.first]
    names = [[name for name in job.cases if matches(name, options.pattern)] for job in jobs]
    if not any(names):
        known = ", ".join(name for job in jobs for name in job.cases)
        raise ValueError(f"no case of {suite.name} matches {options.pattern!r}: {known}")
    return list(zip(jobs, names, strict=True))


@dataclass(frozen=True)
class Prepared:
    """A run of a suite that can begin.

    Attributes:
        name: of the suite.
        bench: what its jobs work with.
        record: the one in the making.
        jobs: each with the names of its cases that are wanted.
    """

    name: str
    bench: Bench
    record: _Run
    jobs: list[tuple[Job, list[str]]]

    def run(
        self, console: PlainConsole | None = None, keep: Callable[[Record], object] | None = None
    ) -> Outcome:
        """Run the jobs; cases that fail or run out of memory are recorded as such, and it goes on.

        Args:
            console: where progress is shown; None shows none.
            keep: called with the record so far after every case.
        """
        record, complete, stopped_by = self.record, True, 0
        total = sum(len(names) for _, names in self.jobs)
        try:
            for job, names in self.jobs:
                signals.check()
                finished_cases = {case.name for case in record.cases}
                missing = [name for name in names if name not in finished_cases]
                if not missing:
                    continue
                if record.out_of_time():
                    complete = False
                    break
                where = f"{self.name} {len(record.cases) + 1}/{total}"
                with _shown(self.bench, console, where, missing):
                    record.job(job, missing, console, keep)
                release(self.bench.device)
        except KeyboardInterrupt as stop:
            complete, stopped_by = False, signals.number_of(stop)
        return Outcome(record.record(complete), stopped_by)


@contextmanager
def _shown(
    bench: Bench, console: PlainConsole | None, where: str, names: Sequence[str]
) -> Iterator[None]:
    """Show what is being done: the names, until the job itself says more."""
    if console is None:
        yield
        return
    with console.status(f"{where}: {', '.join(names)}") as status:
        bench.progress = lambda doing: status.update(f"{where}: {doing}")
        yield
    bench.progress = lambda _: None


class _Run:
    """A record in the making."""

    def __init__(self, suite: Suite, bench: Bench) -> None:
        self._bench, self._start = bench, time.perf_counter()
        self.cases: list[Case] = []
        self._begun = Record(
            suite=suite.name,
            started=datetime.now(UTC).isoformat("T", "seconds"),
            seconds=0.0,
            quick=bench.options.quick,
            complete=False,
            command=bench.options.command,
            machine=machine(bench.device),
            software=software(),
            code=code(),  # now: sources may change under a long run
            roofs=[],
            cases=[],
        )

    def resume(self, before: Record) -> None:
        """Continue where ``before`` ended."""
        earlier = {name: getattr(before, name) for name in ("started", "seconds", "machine")}
        self._begun = replace(self._begun, **earlier)
        self.cases = list(before.cases)
        self._bench.roofline.known = list(before.roofs)

    def out_of_time(self) -> bool:
        limit = self._bench.options.seconds
        return limit is not None and time.perf_counter() - self._start > limit

    def job(
        self,
        job: Job,
        names: Sequence[str],
        console: PlainConsole | None,
        keep: Callable[[Record], object] | None,
    ) -> None:
        """Add the cases of ``names``, also those that an error keeps from being measured."""
        for case in isolate(job.cases, job.run, names):
            self.cases.append(case)
            if keep:
                keep(self.record(complete=False))
            if console:
                console.print(summary(case))

    def record(self, complete: bool) -> Record:
        return replace(
            self._begun,
            seconds=self._begun.seconds + time.perf_counter() - self._start,
            complete=complete,
            machine=finished(self._begun.machine, self._bench.device),
            roofs=list(self._bench.roofline.known),
            cases=list(self.cases),
        )


def matches(name: str, pattern: str | None) -> bool:
    """Whether a case's name has ``pattern`` in it, or fits it as a glob."""
    return pattern is None or pattern in name or fnmatch(name, pattern)
