"""``stylebench batch``: many files in one style, each saved as it is done."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from time import perf_counter

from stylebench import signals
from stylebench.cli.errors import explain, tell, told_once
from stylebench.cli.inputs import with_folders
from stylebench.cli.pace import Pace, progress_over
from stylebench.cli.parsing import mask_files, with_options
from stylebench.cli.pipes import PIPE
from stylebench.console import PlainConsole, stderr_console
from stylebench.files.paths import FileError, exists, expand, same_file, special_kind
from stylebench.files.writing import check_folder
from stylebench.image.folder import pictures_in
from stylebench.image.load import load_image
from stylebench.image.save import check_output
from stylebench.transfer.batch import stylize_batch
from stylebench.transfer.observers import Callback
from stylebench.transfer.result import Result
from stylebench.transfer.settings import Settings

_RANKS = {"RANK": "0", "WORLD_SIZE": "1"}  # as torchrun sets them -> of a process alone
FAILED = 1  # the exit code where a picture could not be made


@dataclass(frozen=True)
class Job:
    """One picture to be made.

    Attributes:
        content: its file.
        output: where it goes.
    """

    content: Path
    output: Path


#: What the first of some jobs begins with in place of ``settings.init``, if anything, and the jobs.
_Stretch = tuple[Path | None, Sequence[Job]]


@dataclass
class _Tally(Pace):
    """The outcomes of the pictures so far.

    Attributes:
        skipped: pictures that were there, beside the total.
        outcomes: one a picture: ``done``, ``stuck`` or ``failed``.
    """

    skipped: int = 0
    outcomes: list[str] = field(default_factory=list)

    def add(self, outcome: str) -> None:
        """Count a picture."""
        self.outcomes.append(outcome)
        self.done = len(self.outcomes)
        self.made += outcome != "failed"  # a bad file takes no time

    def lines(self, unreached: int) -> Iterator[str]:
        """The summary, a line each."""
        counts = Counter(self.outcomes)
        rows = {
            "done": counts["done"] + counts["stuck"],
            "of them hardly changed": counts["stuck"],
            "skipped, there already": self.skipped,
            "failed": counts["failed"],
            "not begun": unreached,
        }
        yield from (f"{name:<24}{count:>6}" for name, count in rows.items() if count)
        made = rows["done"]
        if made:
            rate = 60 * made / self.seconds
            yield f"{'pictures a minute':<24}{rate:>6.1f}"


def batch_files(
    contents: Sequence[Path],
    styles: Sequence[Path],
    folder: Path,
    settings: Settings,
    *,
    suffix: str = ".png",
    skip_existing: bool = False,
    warm_start: bool = False,
    quiet: bool = False,
) -> None:
    """Run ``stylize_batch`` for the command line: the exit code is 1 where a picture failed.

    Args:
        contents: files, and folders of them.
        styles: image files, and folders of them.
        folder: of the outputs, made where it is missing.
        settings: of every run.
        suffix: of the outputs.
        skip_existing: leave out contents whose output is there.
        warm_start: as for ``stylize_batch``; a picture after one that is left out begins from that.
        quiet: print nothing but errors.

    Raises:
        ValueError: a folder, an output or a style that cannot be, before the first run.
    """
    console = stderr_console(quiet=quiet)
    with told_once():
        _check_no_pipe([*contents, *styles])
    folder = check_folder(folder)
    jobs = _jobs(contents, folder, suffix)
    styles = with_folders(styles)
    read = [*(job.content for job in jobs), *styles, *mask_files(settings.masks)]
    _check_outputs(jobs, list(map(expand, read)))
    rank, ranks = _rank()
    if warm_start and ranks > 1:
        raise ValueError(
            f"--warm-start begins a picture from the one before it, which one of {ranks} processes "
            "does not have: run one process, or drop it"
        )
    jobs, settings = jobs[rank::ranks], _on_own_gpu(settings, ranks)
    due = [job for job in jobs if not (skip_existing and exists(job.output))]
    tally = _Tally(len(due), skipped=len(jobs) - len(due))
    stretches = list(_stretches(jobs, due)) if warm_start else [(None, due)]
    try:
        _make(stretches, styles, settings, warm_start, tally, console)
    finally:
        for line in tally.lines(unreached=tally.total - tally.done):
            console.print(line)
    if "failed" in tally.outcomes:
        sys.exit(FAILED)


def _check_no_pipe(typed: Sequence[Path]) -> None:
    if PIPE in typed:
        raise ValueError(
            "- is standard input, which a batch does not read, since its pictures are named after "
            "files: expected files and folders; 'stylebench stylize -' takes one picture from there"
        )


def _stretches(jobs: Sequence[Job], due: Sequence[Job]) -> Iterator[_Stretch]:
    """Those that are ``due``, cut where others are there already."""
    start = None
    for are_due, group in groupby(jobs, set(due).__contains__):
        stretch = list(group)
        if are_due:
            yield start, stretch
        else:
            start = stretch[-1].output


def _make(
    stretches: Sequence[_Stretch],
    styles: Sequence[Path],
    settings: Settings,
    warm_start: bool,
    tally: _Tally,
    console: PlainConsole,
) -> None:
    def failed(content: object, error: Exception) -> None:
        reason = with_options(explain(error) or f"{type(error).__name__}: {error}")
        name = str(content)
        tell(f"error: {reason}" if name in reason else f"error: {name}: {reason}")

    def name() -> str:
        return jobs[tally.done].content.name

    jobs = [job for _, stretch in stretches for job in stretch]
    paintings = [load_image(style) for style in styles]  # once, however many stretches there are

    def made(on_step: Callback) -> Iterator[Result | None]:
        for start, stretch in stretches:
            yield from stylize_batch(
                [job.content for job in stretch], paintings,
                replace(settings, init=start) if start else settings,
                callback=on_step, warm_start=warm_start, on_error=failed,
            )  # fmt: skip

    with progress_over(console, tally, "pictures", name) as on_step:
        results = made(on_step)
        for job in jobs:
            began = perf_counter()
            result = next(results)
            if result is None:
                tally.add("failed")
                continue
            signals.hold()
            try:
                job.output.parent.mkdir(parents=True, exist_ok=True)
                result.save(job.output)
            except (OSError, ValueError) as error:
                failed(job.output, error)
                tally.add("failed")
            else:
                tally.add("stuck" if result.stuck else "done")
                seconds = perf_counter() - began
                console.print(
                    f"{tally.done}/{tally.total} {job.output}: loss "
                    f"{result.parameters['loss']:.4g}, {seconds:.1f} s, {tally.to_go()}"
                )
            signals.go_on()


def _jobs(contents: Sequence[Path], folder: Path, suffix: str) -> list[Job]:
    """A job a picture, those of a folder in the order of their names and numbers."""
    files: list[Path] = []
    for content in map(expand, contents):
        files += pictures_in(content) if special_kind(content) == "a folder" else [content]
    return [Job(file, folder / f"{file.stem}{suffix}") for file in files]


def _check_outputs(jobs: Sequence[Job], inputs: Sequence[Path]) -> None:
    """Refuse outputs that are inputs or each other, or that no file can be written as."""
    taken: dict[Path, Path] = {}
    for job in jobs:
        if exists(job.output.parent):
            check_output(job.output)
        if job.output in taken:
            raise FileError(
                f"{taken[job.output]} and {job.content} would both be {job.output}: rename one, or "
                "give them to two calls"
            )
        taken[job.output] = job.content
        if exists(job.output) and any(same_file(job.output, path) for path in inputs):
            raise FileError(f"{job.output}: is an input, and would be replaced; take another -o")


def _rank() -> tuple[int, int]:
    """The number of this process among those that torchrun started, and how many they are."""
    try:
        rank, ranks = (int(os.environ.get(name, default)) for name, default in _RANKS.items())
    except ValueError:
        rank, ranks = -1, -1
    if not 0 <= rank < ranks:
        found = " and ".join(f"{name}={os.environ.get(name)!r}" for name in _RANKS)
        raise ValueError(f"{found}: expected a rank from 0 and below WORLD_SIZE, as torchrun sets")
    return rank, ranks


def _on_own_gpu(settings: Settings, ranks: int) -> Settings:
    """The settings with a GPU for each process of a machine, where there is a choice."""
    import torch

    local = os.environ.get("LOCAL_RANK", "")
    if ranks == 1 or settings.device is not None or not local.isdecimal():
        return settings
    if not torch.cuda.is_available():
        return settings
    return replace(settings, device=f"cuda:{int(local) % torch.cuda.device_count()}")
