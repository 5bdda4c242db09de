"""``stylebench stylize``: a run from files to a file, watched by a person."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from stylebench.cli.progress import progress, summary
from stylebench.image.save import save_picture
from stylebench.transfer.api import style_transfer
from stylebench.transfer.checkpoint import CheckpointConfig
from stylebench.transfer.observers import Step
from stylebench.transfer.result import Diverged, Interrupted, Result
from stylebench.transfer.settings import Settings

_STUCK = 3  # exit code: the picture is saved, and hardly differs from where it began


def stylize_files(
    content: Path,
    styles: Sequence[Path],
    settings: Settings,
    output: Path,
    save: Callable[[Result], None],
    preview_every: int = 0,
    quiet: bool = False,
    keep: CheckpointConfig | None = None,
    resume: Path | None = None,
) -> None:
    """Run ``stylize`` for the command line.

    Whatever ends the run, the best image so far is saved. Exits with 130 after Ctrl-C, with 3 where
    the loss hardly fell.

    Args:
        content: an image file.
        styles: likewise.
        settings: of the run.
        output: where the picture goes.
        save: saves it.
        preview_every: iterations between two pictures on the way; 0: none.
        quiet: print nothing but errors.
        keep: as for ``style_transfer``.
        resume: likewise.

    Raises:
        Diverged: after saving the last good image, if there was one.
    """
    console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
    try:
        with progress(console) as show:

            def callback(step: Step) -> None:
                show(step)
                if preview_every and step.iteration % preview_every == 0:
                    save_preview(step, output)

            result = style_transfer(
                content,
                styles,
                settings,
                callback,
                on_start=lambda problem: console.print(problem.description),
                sync_every=preview_every,
                keep=keep,
                resume=resume,
            )
    except Interrupted as stop:
        save(stop.result)
        console.print(f"interrupted; the best image so far is in {output}: {summary(stop.result)}")
        if keep and keep.path.exists():
            console.print(f"to go on from the last checkpoint: the same with --resume {keep.path}")
        sys.exit(130)
    except Diverged as stop:
        if stop.result:
            save(stop.result)
            console.print(f"the last good image is in {output}: {summary(stop.result)}")
        raise
    save(result)
    console.print(f"{output}: {summary(result)}")
    if result.stuck:
        sys.exit(_STUCK)


def save_preview(step: Step, output: Path) -> Path:
    """Write the current image beside ``output``, numbered by its iteration."""
    path = output.with_name(f"{output.stem}-{step.iteration:05d}.png")
    save_picture(path, step.picture())
    return path
