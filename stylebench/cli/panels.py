"""A figure that a person watches: its panels are kept as they are done, and a rerun goes on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import perf_counter

from rich.progress import BarColumn, Progress, TextColumn

from stylebench import signals
from stylebench.cli.errors import leave
from stylebench.cli.inputs import with_folders
from stylebench.console import PlainConsole, stderr_console
from stylebench.figures.make import PanelDone, check_sheet, make_figure
from stylebench.figures.panels import panels_of
from stylebench.files.paths import FileError, expand, same_file
from stylebench.files.writing import check_folder
from stylebench.transfer.settings import Settings
from stylebench.watch.step import Step


def make_visibly(
    name: str,
    content: Path,
    style: Path,
    output: Path,
    settings: Settings,
    ratios: Sequence[float] | None,
    *,
    quiet: bool = False,
) -> None:
    """Run ``make_figure`` for the command line, with its panels kept in a folder beside the sheet.

    Args:
        name: as for ``make_figure``.
        content: likewise, a file.
        style: likewise, or a folder of them.
        output: of the sheet.
        settings: as for ``make_figure``.
        ratios: likewise.
        quiet: print nothing but errors.
    """
    console = stderr_console(quiet=quiet)
    if quiet:
        warnings.simplefilter("ignore")
    styles = with_folders([style])
    output = check_sheet(output)
    read = [content, *styles, *([Path(str(settings.init))] if settings.starts_from_file else [])]
    for path in (output, output.with_suffix(".json")):
        if any(same_file(path, expand(one)) for one in read):
            raise FileError(f"{path}: is an input, and would be replaced; take another --output")
    keep = check_folder(output.with_name(f"{output.stem}.panels"))
    runs = sum(panel.settings is not None for panel in panels_of(name, settings, ratios))
    tally = _Tally(runs)
    try:
        with _progress(console, tally) as on_step:
            sheet = make_figure(
                name, content, styles, settings, ratios=ratios, keep=keep, callback=on_step,
                on_panel=lambda done: _tell_of(console, tally, done),
            )  # fmt: skip
    except KeyboardInterrupt as error:
        console.print(
            f"interrupted: {tally.done} of {runs} panels are done"
            + (f" and kept in {keep}; the same command goes on" if tally.done else "")
        )
        leave(error)
    console.print(f"{sheet.save(output)}: {runs} panels, which are kept in {keep}")


class _Tally:
    """The panels so far; those that were there already tell nothing of the pace."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = self.made = 0
        self.began = perf_counter()

    def seconds_to_go(self, share: float = 0.0) -> float:
        made = self.made + share
        return (
            (self.total - self.done - share) * (perf_counter() - self.began) / made if made else 0
        )


def _tell_of(console: PlainConsole, tally: _Tally, panel: PanelDone) -> None:
    tally.done = panel.number
    if panel.seconds:
        tally.made += 1
        how = f"{panel.seconds:.1f} s, {_clock(tally.seconds_to_go())} to go"
    else:
        tally.began = perf_counter()
        how = "there already"
    console.print(f"{panel.number}/{panel.total} {panel.name}: loss {panel.loss:.4g}, {how}")


@contextmanager
def _progress(console: PlainConsole, tally: _Tally) -> Iterator[Callable[[Step], None]]:
    """Yield the callback of every step: a bar over the panels on a terminal."""
    if console.quiet or not console.is_terminal:
        yield lambda _: signals.check()
        return
    columns = (
        BarColumn(bar_width=24),
        TextColumn("{task.completed:.2f}/{task.total} panels", markup=False),
        TextColumn("{task.fields[eta]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=tally.total, eta="")

        def on_step(step: Step) -> None:
            signals.check()
            to_go = _clock(tally.seconds_to_go(step.share))
            bar.update(task, completed=tally.done + step.share, eta=f"{to_go} to go")

        yield on_step


def _clock(seconds: float) -> timedelta:
    return timedelta(seconds=round(seconds))
