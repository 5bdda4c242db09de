"""Options that several commands have, each described once.

Nothing heavy is imported here, so that the command line can answer at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from stylebench.cli.errors import told_once
from stylebench.files.paths import check_no_address

_PRESETS = "preset's"


class Command(TyperCommand):
    """A command that takes nothing empty, and no address where it reads files.

    It sees what was typed: of ``''`` a path is the current folder, of ``https://x`` ``https:/x``.
    An option takes as many values as its metavar has words.
    """

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        for param in self.params:  # typer has no list of tuples
            if param.metavar and param.param_type_name == "option":
                param.nargs = len(param.metavar.split())

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: D102
        with told_once():
            self._check_typed(ctx, args)
            return super().parse_args(ctx, args)

    def _check_typed(self, ctx: Any, args: list[str]) -> None:
        typed, _, _ = self.make_parser(ctx).parse_args(list(args))
        for param in self.params:
            values, name = typed.get(param.name or ""), param.opts[0]
            for value in _flat(values):
                if value == "":
                    name = name if name.startswith("-") else name.upper()
                    raise ValueError(f"{name} is '': expected a name or a value")
                if isinstance(value, str) and param.param_type_name == "argument":
                    check_no_address(value)


def _flat(values: Any) -> list[Any]:
    """The values of an option, of each time that it was given."""
    if isinstance(values, list | tuple):
        return [value for several in values for value in _flat(several)]
    return [values]


def option(text: str, *names: str, by_preset: bool = False, **more: Any) -> Any:
    """An option with help; ``by_preset``: where it is not given, the preset decides."""
    if by_preset:
        more["show_default"] = _PRESETS
    return typer.Option(*names, help=text, **more)


Preset = Annotated[str, option("Variant of the algorithm; see 'stylebench presets'.")]
Pooling = Annotated[str | None, option("average or max.", by_preset=True)]
Weights = Annotated[
    str,
    option("auto, original, gatys, imagenet, random[:SEED] or a .pth, .bin or .safetensors file."),
]
StyleWeights = Annotated[
    str | None, option("Blend of the style images, as 2,1.", show_default="equal")
]
StyleScale = Annotated[float, option("Size of the style images, relative.")]
Color = Annotated[str, option("style, content-luminance, match or match-cholesky.")]
ContentWeight = Annotated[float | None, option("Content loss.", by_preset=True)]
StyleWeight = Annotated[float | None, option("Style loss.", by_preset=True)]
TvWeight = Annotated[float | None, option("Total variation.", by_preset=True)]
Engine = Annotated[str, option("auto, fused, compiled, eager or reference.")]
Precision = Annotated[str, option("auto, fp32, fp32-direct, tf32, bf16, fp16 or fp64.")]
Scales = Annotated[
    str, option("Smaller sizes to begin with: auto, none, 128,256 or 128=300,256=100.")
]
Optimizer = Annotated[str, option("auto, lbfgs, torch-lbfgs or adam.")]
History = Annotated[
    int | None,
    option("Pairs that L-BFGS keeps, 24 bytes a pixel each.", show_default="100, above 1 MP fewer"),
]
HistoryDtype = Annotated[
    str | None, option("fp32, or bf16 for half the memory.", show_default="fp32, where that fits")
]
Masks = Annotated[
    list[Any] | None,
    option(
        "The white of one takes its style from the white of the other; whole: from all of a style "
        "image; none: it keeps the content. May be given several times.",
        "--mask",
        metavar="CONTENT_MASK STYLE_MASK",
        show_default=False,
    ),
]
Init = Annotated[
    str | None,
    option(
        "content, noise, style, gray, mean, content+noise:0.2 or an image file.", by_preset=True
    ),
]
Seed = Annotated[int, option("Of the noise.")]
Tile = Annotated[str, option("Maps in tiles, for large pictures: auto, none, px, or rows:PX.")]
Device = Annotated[
    str | None, option("cpu, cuda, cuda:1 or mps.", show_default="the best there is")
]
StyleLayers = Annotated[
    str | None, option("As relu1_1,relu2_1=0.5; conv: before ReLU.", by_preset=True)
]
Seamless = Annotated[
    bool, option("Opposite borders meet: the picture tiles without a seam.", "--seamless")
]
BitDepth = Annotated[int, option("8, or 16 for .png and .tiff.")]
Losses = Annotated[
    Path | None, option("Write the loss history to this CSV file.", show_default=False)
]
PreviewEvery = Annotated[
    int, option("Write OUT-00050.png and so on every so many iterations; 0: never.", min=0)
]
Checkpoint = Annotated[
    Path | None, option("Write this file on the way, for --resume.", show_default=False)
]
CheckpointEvery = Annotated[int, option("Iterations between two of them.", min=1)]
Resume = Annotated[
    Path | None,
    option("Go on from a checkpoint of the same run, with no bit different.", show_default=False),
]
Overwrite = Annotated[
    bool,
    option(
        "Let -o replace an input picture, and checkpoints and previews those of other runs.",
        "--overwrite",
    ),
]
DryRun = Annotated[
    bool, option("Print the sizes, the choices and the memory, and do nothing.", "--dry-run")
]
Quiet = Annotated[bool, option("Print nothing but errors.", "--quiet", "-q")]
View = Annotated[
    bool, option("Show the run on a local page, with a button that stops it.", "--view")
]
Video = Annotated[
    Path | None, option("Write a film of the run: .mp4 or .webm.", show_default=False)
]
VideoFps = Annotated[int, option("Frames a second of the film.")]
VideoSeconds = Annotated[float, option("Length of the film, at most.")]
