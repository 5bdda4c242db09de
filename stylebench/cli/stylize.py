"""``stylebench stylize``: a run from files to a file, watched by a person."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from stylebench import signals
from stylebench.cli.destinations import Destinations
from stylebench.cli.errors import ELSEWHERE, STUCK, leave, tell
from stylebench.cli.pipes import STDOUT_NAME, write_png
from stylebench.cli.saving import write_or_rescue
from stylebench.cli.summary import summary
from stylebench.cli.watched import watched
from stylebench.console import PlainConsole, stderr_console
from stylebench.files.paths import exists, same_file
from stylebench.image.load import ImageSource
from stylebench.transfer.checkpoint import CheckpointConfig
from stylebench.transfer.inputs import Styles
from stylebench.transfer.result import Diverged, Result, result_of
from stylebench.transfer.settings import Settings
from stylebench.watch.page.feed import Feed, Stopped
from stylebench.watch.step import Step


def stylize_files(
    content: ImageSource,
    styles: Styles,
    settings: Settings,
    to: Destinations,
    checkpoint_every: int = 50,
    resume: Path | None = None,
    quiet: bool = False,
    page: Feed | None = None,
    first: bool = True,
) -> None:
    """Run ``stylize`` for the command line.

    Whatever ends the run, the best image so far is saved. The exit codes are those of ``errors``.

    Args:
        content: as for ``style_transfer``.
        styles: likewise.
        settings: of the run.
        to: checked.
        checkpoint_every: iterations between two checkpoints.
        resume: as for ``style_transfer``.
        quiet: print nothing but errors.
        page: shows the run, and can stop it.
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
            _told(to, page) if first else None,
            sync_every=to.sync_every,
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
        if page:
            how = "stopped" if isinstance(error, Stopped | KeyboardInterrupt) else "failed"
            page.end(how, f"{_ending(error)} is in {place.absolute()}", kept.image)
        elsewhere |= _save_film(kept, to, console)
        if isinstance(error, Stopped):  # as it was asked to
            sys.exit(ELSEWHERE if elsewhere else 0)
        leave(error, ELSEWHERE if elsewhere else None)
    place, elsewhere = _save(result, to) if first else (to.output, False)
    console.print(f"{place}: {summary(result)}")
    if page:
        page.end("done", f"done; the picture is in {place.absolute()}", result.image)
    elsewhere |= _save_film(result, to, console)
    if elsewhere:
        sys.exit(ELSEWHERE)
    if signals.received():
        sys.exit(signals.exit_code())
    if result.stuck:
        sys.exit(STUCK)


def _told(to: Destinations, page: Feed | None) -> Callable[[Step], object]:
    """The function that tells everyone of a step; the page last, since it may stop the run."""
    everyone = [to.previews.save]
    if to.film:
        everyone.append(to.film.add)
    if page:
        everyone.append(page.show)

    def tell_all(step: Step) -> None:
        for one in everyone:
            one(step)

    return tell_all


def _save(result: Result, to: Destinations) -> tuple[Path, bool]:
    """Save the picture and the losses; return the picture's place, and whether one is elsewhere."""
    asked = STDOUT_NAME if to.is_stdout else to.output
    try:
        place = write_or_rescue(lambda path: _write(result, path, to), asked, "the picture")
        losses = to.losses and write_or_rescue(
            result.save_losses, to.losses, "the loss history", ".csv"
        )
    except KeyboardInterrupt:
        kept = "may be cut off" if to.is_stdout else "is whole, the old file or the new one"
        tell(f"interrupted while {asked} was saved: it {kept}")
        sys.exit(signals.exit_code())
    return place, (place, losses) != (asked, to.losses)


def _write(result: Result, path: Path, to: Destinations) -> None:
    if path == STDOUT_NAME and to.stdout is not None:
        write_png(result, to.bit_depth, to.stdout)
    else:
        result.save(path, to.bit_depth)


def _save_film(result: Result, to: Destinations, console: PlainConsole) -> bool:
    """Save the film, where there is one; return whether it is elsewhere."""
    film = to.film
    if film is None:
        return False
    console.print(f"writing {film.path}")
    try:
        place = write_or_rescue(
            lambda path: film.write(path, result.image, result.parameters),
            film.path,
            "the film",
            film.path.suffix,
        )
    except KeyboardInterrupt:
        tell(f"interrupted while {film.path} was written: there is no film of this run")
        sys.exit(signals.exit_code())
    return place != film.path


def _ending(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; the best image so far"
    if isinstance(error, Stopped):
        return "stopped on the page; the best image so far"
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
