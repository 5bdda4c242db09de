"""The pace of a command that makes several pictures: a bar over them, and the time to go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from rich.progress import BarColumn, Progress, TextColumn

from stylebench import signals
from stylebench.console import PlainConsole
from stylebench.watch.progress import clock
from stylebench.watch.step import Step


@dataclass
class Pace:
    """The pictures so far.

    Attributes:
        total: of them.
        done: those that are over, however they ended.
        made: of those, the ones that took their time: some may have been there already.
        began: when the first of these began, seconds.
    """

    total: int
    done: int = 0
    made: int = 0
    began: float = field(default_factory=perf_counter)

    @property
    def seconds(self) -> float:
        """Since the first began."""
        return perf_counter() - self.began

    def to_go(self, share: float = 0.0) -> str:
        """The time to go, after so much of the picture in work."""
        made = self.made + share
        seconds = (self.total - self.done - share) * self.seconds / made if made else 0.0
        return f"{clock(seconds)} to go"


@contextmanager
def progress_over(
    console: PlainConsole, pace: Pace, noun: str, name: Callable[[], str] | None = None
) -> Iterator[Callable[[Step], None]]:
    """Yield the callback of every step: a bar over the pictures on a terminal.

    Args:
        console: to show it on.
        pace: of the pictures, kept by the caller.
        noun: for them, in the plural.
        name: of the picture in work, if it is shown.
    """
    if console.quiet or not console.is_terminal:
        yield lambda _: signals.check()
        return
    texts = ["{task.completed:.2f}/{task.total} " + noun, "{task.fields[eta]}"]
    if name:
        texts.insert(1, "{task.fields[name]}")
    columns = (BarColumn(bar_width=24), *(TextColumn(text, markup=False) for text in texts))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=pace.total, name="", eta="")

        def on_step(step: Step) -> None:
            signals.check()
            bar.update(
                task,
                completed=pace.done + step.share,
                name=name() if name else "",
                eta=pace.to_go(step.share),
            )

        yield on_step
