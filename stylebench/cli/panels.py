"""A figure that a person watches: its panels are kept as they are done, and a rerun goes on."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from stylebench.cli.errors import leave
from stylebench.cli.inputs import typed_inputs
from stylebench.cli.pace import Pace, progress_over
from stylebench.console import PlainConsole, stderr_console
from stylebench.figures.make import PanelDone, check_sheet, make_figure
from stylebench.figures.panels import panels_of
from stylebench.files.paths import FileError, expand, same_file
from stylebench.files.writing import check_folder
from stylebench.transfer.settings import Settings


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
        content: likewise, a file, or ``-`` for standard input.
        style: likewise, or a folder of files.
        output: of the sheet.
        settings: as for ``make_figure``.
        ratios: likewise.
        quiet: print nothing but errors.
    """
    console = stderr_console(quiet=quiet)
    if quiet:
        warnings.simplefilter("ignore")
    typed = typed_inputs(content, [style])
    output = check_sheet(output)
    read = [path for paths in typed.files.values() for path in paths]
    read += [Path(str(settings.init))] if settings.starts_from_file else []
    for path in (output, output.with_suffix(".json")):
        if any(same_file(path, expand(one)) for one in read):
            raise FileError(f"{path}: is an input, and would be replaced; take another --output")
    keep = check_folder(output.with_name(f"{output.stem}.panels"))
    runs = sum(panel.settings is not None for panel in panels_of(name, settings, ratios))
    pace = Pace(runs)
    try:
        with progress_over(console, pace, "panels") as on_step:
            sheet = make_figure(
                name, typed.content, typed.styles, settings, ratios=ratios, keep=keep,
                callback=on_step, on_panel=lambda done: _tell_of(console, pace, done),
            )  # fmt: skip
    except KeyboardInterrupt as error:
        console.print(
            f"interrupted: {pace.done} of {runs} panels are done"
            + (f" and kept in {keep}; the same command goes on" if pace.done else "")
        )
        leave(error)
    console.print(f"{sheet.save(output)}: {runs} panels, which are kept in {keep}")


def _tell_of(console: PlainConsole, pace: Pace, panel: PanelDone) -> None:
    pace.done = panel.number
    if panel.seconds:
        pace.made += 1
        how = f"{panel.seconds:.1f} s, {pace.to_go()}"
    else:
        pace.began = perf_counter()
        how = "there already"
    console.print(f"{panel.number}/{panel.total} {panel.name}: loss {panel.loss:.4g}, {how}")
