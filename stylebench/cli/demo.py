"""``stylebench demo``: the whole algorithm on pictures that the project draws itself."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from stylebench import signals
from stylebench.cli.destinations import check_folder_of
from stylebench.cli.errors import ELSEWHERE, leave
from stylebench.cli.saving import write_or_rescue
from stylebench.cli.summary import summary
from stylebench.cli.watched import watched
from stylebench.console import PlainConsole, ascii_only, stdout_console
from stylebench.image.montage import side_by_side
from stylebench.image.save import save_picture
from stylebench.image.synthetic import landscape, painting
from stylebench.transfer.result import Result, result_of
from stylebench.transfer.settings import Settings

_CURVE_ROWS = 12
_RESULT = "result.png"
_FILES = (_RESULT, "content.png", "style.png", "strip.png", "losses.csv")


def run_demo(folder: Path, size: int, iterations: int, weights: str) -> None:
    """Write content.png, style.png, result.png, losses.csv and strip.png into ``folder``.

    Whatever ends the run early, the best image so far is shown and kept. The folder is made when
    there is something to put into it. The exit codes are those of ``errors``.
    """
    console = stdout_console()
    folder = check_folder_of(folder, _FILES)
    settings = Settings(size=size, iterations=iterations, weights=weights)
    content, style = landscape(), painting()
    try:
        result = watched(console, content, style, settings, reuse=False)
    except BaseException as error:
        kept = result_of(error)
        if kept is None:
            raise
        place = _show(console, folder, content, style, kept)
        leave(error, None if place == folder / _RESULT else ELSEWHERE)
    place = _show(console, folder, content, style, result)
    if place != folder / _RESULT:
        sys.exit(ELSEWHERE)
    if signals.received():
        sys.exit(signals.exit_code())


def _show(
    console: PlainConsole, folder: Path, content: Image.Image, style: Image.Image, result: Result
) -> Path:
    """Save and show everything; return where the result's picture is, the others beside it."""

    def write(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        result.save(path)

    place = write_or_rescue(write, folder / _RESULT, "the picture")
    pictures = [place]
    if place.parent == folder:
        others = {
            "content": content,
            "style": style,
            "strip": side_by_side([content, style, result.image], height=result.image.height),
        }
        for name, picture in others.items():
            save_picture(folder / f"{name}.png", picture)
            pictures.append(folder / f"{name}.png")
        result.save_losses(folder / "losses.csv")
    console.print(loss_curve(result, "#" if ascii_only(console.file) else "█"))
    console.print(summary(result))
    console.print(f"pictures: {', '.join(map(str, pictures))}")
    return place


def loss_curve(result: Result, bar: str = "█") -> str:
    """The loss against iterations, on a logarithmic scale, in bars of a character."""
    losses = result.losses["loss"]
    picked = losses.iloc[np.unique(np.linspace(0, len(losses) - 1, _CURVE_ROWS).astype(int))]
    logs = np.log10(picked)
    span = max(float(logs.max() - logs.min()), 1e-9)
    lines = ["loss by iteration (logarithmic)"]
    for iteration, loss in picked.items():
        length = 1 + round(44 * float(np.log10(loss) - logs.min()) / span)
        lines.append(f"{iteration:>6}  {loss:>10.4g}  {bar * length}")
    return "\n".join(lines)
