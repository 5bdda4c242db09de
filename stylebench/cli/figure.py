"""``stylebench figure``: figures of the papers, made anew of two pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from stylebench import signals
from stylebench.cli import options
from stylebench.cli.options import Command, option
from stylebench.cli.parsing import naming_options, parse_numbers
from stylebench.figures import FIGURES

app = typer.Typer(help="Make a figure of the papers anew, of any two pictures.")

#: The settings that a figure has options for; errors name no others as such.
_OPTIONS = (
    "preset", "size", "iterations", "ratios", "style_scale", "weights", "engine", "precision",
    "scales", "history", "init", "seed", "device",
)  # fmt: skip

Content = Annotated[
    Path, typer.Argument(help="The image to repaint; - is standard input.", show_default=False)
]
Style = Annotated[Path, typer.Argument(help="The image of the style.", show_default=False)]
Output = Annotated[Path, option("The sheet; its losses go beside it, as .json.", "--output", "-o")]
Size = Annotated[int, option("Longest side of a panel, px.", "--size", "-s")]
Iterations = Annotated[int, option("Function evaluations of a panel.", "--iterations", "-n")]
Ratios = Annotated[
    str | None,
    option("Of alpha / beta; several for layers, as 1e-4,1e-2.", show_default="the paper's"),
]
Init = Annotated[
    str | None,
    option("content, noise, style or an image file; not of init.", show_default="noise"),
]
Seed = Annotated[int, option("Of the noise; of the first one, where there are several.")]
Quiet = Annotated[bool, option("Print nothing but errors.", "--quiet", "-q")]


def _command(name: str) -> Callable[..., None]:
    def command(
        content: Content,
        style: Style,
        output: Output = Path(f"{name}.png"),
        size: Size = 256,
        iterations: Iterations = 300,
        ratios: Ratios = None,
        preset: options.Preset = "gatys-pytorch",
        style_scale: options.StyleScale = 1.0,
        weights: options.Weights = "auto",
        engine: options.Engine = "auto",
        precision: options.Precision = "auto",
        scales: options.Scales = "auto",
        history: options.History = None,
        init: Init = None,
        seed: Seed = 0,
        device: options.Device = None,
        quiet: Quiet = False,
    ) -> None:
        with signals.importing():
            from stylebench.cli.panels import make_visibly
            from stylebench.cli.parsing import parse_scales
            from stylebench.transfer.settings import Settings

        with naming_options(_OPTIONS):
            settings = Settings(
                preset=preset, size=size, iterations=iterations, style_scale=style_scale,
                weights=weights, engine=engine, precision=precision, scales=parse_scales(scales),
                history=history, init=init, seed=seed, device=device,
            )  # fmt: skip
            chosen = parse_numbers("--ratios", ratios)
            make_visibly(name, content, style, output, settings, chosen, quiet=quiet)

    command.__doc__ = FIGURES[name]
    return command


for _name in FIGURES:
    app.command(_name, cls=Command)(_command(_name))
