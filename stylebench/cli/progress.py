"""A run that a person watches: what was chosen, progress, previews, and what was saved."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from stylebench.image.save import save_picture
from stylebench.transfer.api import style_transfer
from stylebench.transfer.checkpoint import Keep
from stylebench.transfer.loop import Step
from stylebench.transfer.result import Diverged, Interrupted, Result
from stylebench.transfer.settings import Settings

_LINES_WITHOUT_TERMINAL = 10  # progress lines in a log file


def run_visibly(
    content: Path,
    styles: Sequence[Path],
    settings: Settings,
    output: Path,
    save: Callable[[Result], None],
    preview_every: int = 0,
    quiet: bool = False,
    keep: Keep | None = None,
    resume: Path | None = None,
) -> None:
    """Run ``stylize`` for the command line.

    Whatever ends the run, the best image so far is saved. Exits with 130 after Ctrl-C.

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
                announce=lambda problem: console.print(problem.description),
                pause_every=preview_every,
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


def summary(result: Result) -> str:
    """How a run went, in one line."""
    done, seconds = result.parameters["iterations_done"], result.parameters["seconds"]
    return (
        f"loss {result.history[0]['loss']:.4g} -> {result.parameters['loss']:.4g} in {done} "
        f"iterations, {seconds:.1f} s, {done / seconds:.2f} it/s"
    )


@contextmanager
def progress(console: Console) -> Iterator[Callable[[Step], None]]:
    """A function that shows steps: a live bar on a terminal, a few plain lines elsewhere."""
    if console.quiet:
        yield lambda _: None
        return
    if not console.is_terminal:
        yield lambda step: _print_some(console, step)
        return
    columns = (
        BarColumn(bar_width=24),
        TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[losses]}"),
        TextColumn("{task.fields[rate]:.2f} it/s"),
        TextColumn("{task.fields[eta]}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("loading", total=None, losses="", rate=0.0, eta="")

        def show(step: Step) -> None:
            bar.update(
                task,
                total=step.iterations,
                completed=step.iteration,
                losses=_losses(step),
                rate=step.rate,
                eta=f"{timedelta(seconds=round(step.eta))} to go",
            )

        yield show


def save_preview(step: Step, output: Path) -> Path:
    """Write the current image beside ``output``, numbered by its iteration."""
    path = output.with_name(f"{output.stem}-{step.iteration:05d}.png")
    save_picture(path, step.picture())
    return path


def _print_some(console: Console, step: Step) -> None:
    every = max(1, step.iterations // _LINES_WITHOUT_TERMINAL)
    if step.iteration == 1 or step.iteration % every == 0:
        console.print(f"{step}  ({_losses(step)})")


def _losses(step: Step) -> str:
    """The total, and the sum of each kind of term."""
    kinds: dict[str, float] = {}
    for name, value in step.terms.items():
        kind = name.split()[0]
        kinds[kind] = kinds.get(kind, 0.0) + value
    return "  ".join(f"{name} {value:.4g}" for name, value in {"loss": step.loss, **kinds}.items())
