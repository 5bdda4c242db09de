"""``stylebench demo``: the whole algorithm on pictures that the project draws itself."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from stylebench.cli.progress import progress, summary
from stylebench.image.montage import side_by_side
from stylebench.image.save import save_picture
from stylebench.image.synthetic import landscape, painting
from stylebench.transfer.api import style_transfer
from stylebench.transfer.result import Interrupted, Result
from stylebench.transfer.settings import Settings

_CURVE_ROWS = 12


def run_demo(folder: Path, size: int, iterations: int, weights: str) -> None:
    """Write content.png, style.png, result.png, losses.csv and strip.png into ``folder``.

    Ctrl-C ends the run early, with the best image so far, and exits with 130.
    """
    console = Console(highlight=False, soft_wrap=True)
    folder.mkdir(parents=True, exist_ok=True)
    settings = Settings(size=size, iterations=iterations, weights=weights)
    content, style = landscape(), painting()
    interrupted = False
    try:
        with progress(console) as show:
            result = style_transfer(
                content,
                style,
                settings,
                show,
                on_start=lambda problem: console.print(problem.description),
            )
    except Interrupted as stop:
        result, interrupted = stop.result, True
    _show(console, folder, content, style, result)
    if interrupted:
        sys.exit(130)


def _show(
    console: Console, folder: Path, content: Image.Image, style: Image.Image, result: Result
) -> None:
    pictures = {"content": content, "style": style, "result": result.image}
    save_picture(folder / "content.png", content)
    save_picture(folder / "style.png", style)
    result.save(folder / "result.png")
    result.save_losses(folder / "losses.csv")
    save_picture(
        folder / "strip.png", side_by_side(list(pictures.values()), height=result.image.height)
    )
    console.print(loss_curve(result))
    console.print(summary(result))
    console.print(
        f"pictures: {', '.join(str(folder / f'{name}.png') for name in [*pictures, 'strip'])}"
    )


def loss_curve(result: Result) -> str:
    """The loss against iterations, on a logarithmic scale, for a terminal."""
    losses = result.losses["loss"]
    picked = losses.iloc[np.unique(np.linspace(0, len(losses) - 1, _CURVE_ROWS).astype(int))]
    logs = np.log10(picked)
    span = max(float(logs.max() - logs.min()), 1e-9)
    lines = ["loss by iteration (logarithmic)"]
    for iteration, loss in picked.items():
        length = 1 + round(44 * float(np.log10(loss) - logs.min()) / span)
        lines.append(f"{iteration:>6}  {loss:>10.4g}  {'█' * length}")
    return "\n".join(lines)
