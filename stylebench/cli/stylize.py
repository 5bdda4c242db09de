"""``stylebench stylize``: a run from files to a file, watched by a person."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from stylebench import signals
from stylebench.cli.destinations import Destinations
from stylebench.cli.errors import ELSEWHERE, STUCK, leave, tell
from stylebench.cli.progress import summary
from stylebench.cli.saving import write_or_rescue
from stylebench.cli.watched import watched
from stylebench.console import stderr_console
from stylebench.files.paths import exists, same_file
from stylebench.transfer.checkpoint import CheckpointConfig
from stylebench.transfer.result import Diverged, Result, result_of
from stylebench.transfer.settings import Settings


def stylize_files(
    content: Path,
    styles: Sequence[Path],
    settings: Settings,
    to: Destinations,
    checkpoint_every: int = 50,
    resume: Path | None = None,
    quiet: bool = False,
    first: bool = True,
) -> None:
    """Run ``stylize`` for the command line.

    Whatever ends the run, the best image so far is saved. The exit codes are those of ``errors``.

    Args:
        content: an image file.
        styles: likewise.
        settings: of the run.
        to: checked.
        checkpoint_every: iterations between two checkpoints.
        resume: as for ``style_transfer``.
        quiet: print nothing but errors.
        first: this is the process that saves the picture, of those that compute it.
    """
    console = stderr_console(quiet=quiet)
    keep = CheckpointConfig(to.checkpoint, checkpoint_every) if to.checkpoint else None
    version = _version(to.checkpoint)
    try:
        result = watched(
            console,
            content,
            styles,
            settings,
            to.previews.save if first else None,
            sync_every=to.previews.every,
            keep=keep,
            resume=resume,
            reuse=False,
        )
    except BaseException as error:
        kept = result_of(error)
        if kept is None or not first:
            raise
        place, elsewhere = _save(kept, to)
        console.print(f"{_ending(error)} is in {place}: {summary(kept)}")
        if to.checkpoint and _is_own(to.checkpoint, version, resume):
            hint = f"the same with --resume {shlex.quote(str(to.checkpoint))}"
            console.print(f"to go on from the last checkpoint: {hint}")
        leave(error, ELSEWHERE if elsewhere else None, vars(settings))
    place, elsewhere = _save(result, to) if first else (to.output, False)
    console.print(f"{place}: {summary(result)}")
    if elsewhere:
        sys.exit(ELSEWHERE)
    if signals.received():
        sys.exit(signals.exit_code())
    if result.stuck:
        sys.exit(STUCK)


def _save(result: Result, to: Destinations) -> tuple[Path, bool]:
    """Save the picture and the losses; return the picture's place, and whether one is elsewhere."""
    try:
        place = write_or_rescue(
            lambda path: result.save(path, to.bit_depth), to.output, "the picture"
        )
        losses = to.losses and write_or_rescue(
            result.save_losses, to.losses, "the loss history", ".csv"
        )
    except KeyboardInterrupt:
        tell(f"interrupted while {to.output} was saved: it is whole, the old file or the new one")
        sys.exit(signals.exit_code())
    return place, (place, losses) != (to.output, to.losses)


def _ending(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; the best image so far"
    return "the last good image" if isinstance(error, Diverged) else "the best image so far"


def _version(path: Path | None) -> tuple[int, int] | None:
    """A file's identity and time, which a new checkpoint changes; None where there is none."""
    if path is None or not exists(path):
        return None
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def _is_own(path: Path, before: tuple[int, int] | None, resume: Path | None) -> bool:
    """Whether the checkpoint at ``path`` is of this run."""
    now = _version(path)
    went_on = resume is not None and same_file(path, resume)
    return now is not None and (went_on or now != before)
