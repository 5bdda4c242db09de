"""Texture synthesis: a picture of the style alone, of any size, without a content.

Gatys, Ecker and Bethge 2015, "Texture Synthesis Using Convolutional Neural Networks" (arXiv
1505.07376): from noise to a picture whose Gram matrices are the style's. The engines and optimizers
are those of style transfer; there are no content layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from PIL import Image

from stylebench.image.load import ImageSource, Picture, load_image
from stylebench.model.vgg import Pooling, Weights
from stylebench.transfer.api import style_transfer
from stylebench.transfer.init import is_named
from stylebench.transfer.inputs import Styles, as_list
from stylebench.transfer.observers import Callback
from stylebench.transfer.seamless import check_closes
from stylebench.transfer.settings import Layers, Scales, Settings
from stylebench.transfer.values import listed, shown, whole, wrong

PRESET, SIZE = "gatys-pytorch", 512
_POOLING: Pooling = "average"  # as the paper

TextureSize = int | Sequence[int]


@dataclass(frozen=True)
class Canvas(Picture):
    """A picture in the place of the content, to be stretched: no loss is of it.

    It is as large as its own pixels until a run resizes it, whose memory is planned by then.

    Attributes:
        sides: (height, width) in pixels that it is to have.
    """

    sides: tuple[int, int] = (0, 0)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels of the texture."""
        return self.sides


@dataclass(frozen=True)
class TextureRun:
    """The arguments of ``style_transfer`` that make a texture.

    Attributes:
        canvas: the first style image, to be stretched over the texture.
        styles: the style images.
        settings: without content layers, from noise.
    """

    canvas: Canvas
    styles: list[Picture]
    settings: Settings


def texture(
    style: Styles,
    *,
    size: TextureSize = SIZE,
    seamless: bool = False,
    preset: str = PRESET,
    iterations: int | None = None,
    style_weights: Sequence[float] | None = None,
    style_scale: float = 1.0,
    style_layers: Layers | None = None,
    style_weight: float | None = None,
    tv_weight: float | None = None,
    pooling: Pooling | None = None,
    normalize: bool | None = None,
    weights: str | Path | Weights = "auto",
    engine: str = "auto",
    precision: str = "auto",
    polish: int | None = None,
    scales: Scales | None = "auto",
    optimizer: str = "auto",
    history: int | None = None,
    history_dtype: str | None = None,
    learning_rate: float | None = None,
    init: ImageSource | None = None,
    seed: int = 0,
    tile: int | str = "auto",
    device: str | torch.device | None = None,
    callback: Callback | None = None,
) -> Image.Image:
    """Paint a texture that looks like ``style`` everywhere (arXiv 1505.07376).

        image = texture("bark.jpg", size=512, seamless=True)

    Args:
        style: a path, PIL image, numpy array or tensor, or a sequence of several.
        size: side of the square in pixels, or (width, height).
        seamless: the texture tiles: its opposite borders meet.
        style_scale: size of the style images, relative to their own or, where they are larger than
            the texture, to its longest side.
        pooling: ``average``, the paper's, where it is not given, whatever the preset.
        init: a picture to begin with instead of noise.
        callback: as for ``stylize``.

    The other arguments are described at ``Settings``.

    Returns:
        The texture, 8-bit RGB.

    Raises:
        ValueError: as ``stylize``; also a size that no seamless texture can have.
        Interrupted: on Ctrl-C, with the best image so far.
        Diverged: when a loss or gradient is not finite, with the best image before that.
    """
    keywords = locals()
    names = {field.name for field in fields(Settings)} & keywords.keys() - {"size"}
    settings = Settings(**{name: keywords[name] for name in names})
    run = texture_run(style, size, settings)
    return style_transfer(run.canvas, run.styles, run.settings, callback).image


def texture_run(style: Styles, size: TextureSize, settings: Settings) -> TextureRun:
    """The run that makes a texture.

    Args:
        style: as for ``texture``.
        size: likewise.
        settings: of the rest; their own size is not used, and ``pooling`` is average by default.

    Raises:
        ValueError: a setting that a texture does not have, or a size that it cannot have.
    """
    width, height = _sides(size)
    _check_no_content(settings)
    styles = [load_image(source) for source in as_list(style)]
    longest = max(width, height)
    own = min(max(picture.size) for picture in styles)
    settings = replace(
        settings,
        size=longest,
        content_layers={},
        pooling=settings.pooling or _POOLING,
        init=settings.init or "noise",
        style_scale=settings.style_scale * min(1.0, own / longest),
    )
    if settings.seamless:
        check_closes((height, width), settings.resolved_preset())
    canvas = Canvas("the texture", styles[0].rgb, sides=(height, width))
    return TextureRun(canvas, styles, settings)


def _sides(size: TextureSize) -> tuple[int, int]:
    """Width and height in pixels."""
    if isinstance(size, str):
        raise wrong("size", size, "a whole number of px, or (width, height)")
    if not hasattr(size, "__len__"):
        return whole("size", size), whole("size", size)
    sides = listed("size", size, "a whole number of px, or (width, height)")
    if len(sides) != 2:
        raise wrong("size", size, "a whole number of px, or (width, height)")
    return whole("the width of size", sides[0]), whole("the height of size", sides[1])


def _check_no_content(settings: Settings) -> None:
    """Refuse what a run without a content has not got."""
    for name, unset in (("content_layers", None), ("content_weight", None), ("color", "style")):
        value = getattr(settings, name)
        if value not in (unset, {}):
            raise ValueError(f"{name} is {shown(value)}: a texture has no content; leave it out")
    if is_named(settings.init) and settings.init != "noise":
        raise ValueError(
            f"init is {settings.init!r}: expected noise, or a picture: a texture has no content, "
            "and a plain color gives it no place to begin at"
        )
