"""The progress of a run on a console: a live bar on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from stylebench.watch.step import Step, rate_text

_LINES_WITHOUT_TERMINAL = 10  # progress lines in a log file


@contextmanager
def progress(console: Console) -> Iterator[Callable[[Step], None]]:
    """Yield the function that shows steps on ``console``."""
    if console.quiet:
        yield lambda _: None
        return
    if not console.is_terminal:
        yield lambda step: _print_some(console, step)
        return
    columns = (
        BarColumn(bar_width=24),
        TextColumn("{task.completed}/{task.total}", markup=False),
        TextColumn("{task.fields[losses]}", markup=False),
        TextColumn("{task.fields[rate]}", markup=False),
        TextColumn("{task.fields[eta]}", markup=False),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("loading", total=None, losses="", rate="", eta="")

        def show(step: Step) -> None:
            bar.update(
                task,
                total=step.iterations,
                completed=step.iteration,
                losses=_losses(step),
                rate=rate_text(step.rate),
                eta=f"{clock(step.eta)} to go",
            )

        yield show


def clock(seconds: float) -> timedelta:
    """A time as clocks show it, to the second."""
    return timedelta(seconds=round(seconds))


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
