"""The pictures and weights of a run, loaded once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from stylebench.image.load import ImageError, ImageSource, Picture, fit, load_image
from stylebench.model.presets import Preset
from stylebench.model.vgg import Weights
from stylebench.model.weights import load_weights
from stylebench.transfer.settings import Settings

Styles: TypeAlias = "ImageSource | Sequence[ImageSource]"


@dataclass
class Inputs:
    """Everything of a run that comes from outside, at its own size.

    Attributes:
        content: the picture to repaint.
        styles: the pictures to take the style from, one or more.
        init: the picture that ``Settings.init`` names as a file, or None.
        weights: VGG-19's; None once they were taken.
    """

    content: Picture
    styles: list[Picture]
    init: Picture | None
    weights: Weights | None

    def weights_for(self, *, last: bool) -> Weights:
        """The weights, which the ``last`` problem takes: no later one can be built.

        Engines convert weights layer by layer, and held here every layer would be there twice.
        """
        weights = self.weights
        if weights is None:
            raise RuntimeError("the weights were taken by the last phase of a run")
        if last:
            self.weights = None
        return weights


@dataclass(frozen=True)
class Sizes:
    """(height, width) in pixels that the pictures of a run are resized to."""

    content: tuple[int, int]
    styles: list[tuple[int, int]]


def load_inputs(content: ImageSource, style: Styles, settings: Settings) -> Inputs:
    """Read the pictures and the weights of a run.

    Args:
        content: a path, PIL image, numpy array or tensor; see ``image.load.load_image``.
        style: the same, or a sequence of several.
        settings: of the run, at any of its sizes.

    Raises:
        ImageError: a picture that cannot be read, or a size too small for the layers.
        WeightsError: weights that cannot be had.
        ValueError: no style image, or style weights of another number.
    """
    photo, paintings = load_image(content), [load_image(source) for source in _listed(style)]
    preset = settings.resolved_preset()
    init = load_image(preset.init) if settings.starts_from_file else None
    inputs = Inputs(photo, paintings, init, None)
    settings.normalized_style_weights(len(paintings))
    fit_pictures(inputs, settings, min(settings.schedule()))  # before weights are read
    inputs.weights = load_weights(settings.weights)
    return inputs


def fit_pictures(inputs: Inputs, settings: Settings, longest: int) -> Sizes:
    """The sizes that the pictures get where the result's longest side is ``longest`` px.

    Raises:
        ImageError: one of them is too small for the deepest layer.
    """
    preset = settings.resolved_preset()
    content = fit(inputs.content.size, longest)
    styles = [_style_size(style, content, preset, settings.style_scale) for style in inputs.styles]
    pictures = [inputs.content, *inputs.styles]
    for picture, size in zip(pictures, [content, *styles], strict=True):
        _check_size(picture.name, size, preset)
    return Sizes(content, styles)


def _listed(style: Styles) -> list[ImageSource]:
    if (
        isinstance(style, Iterable)
        and not isinstance(style, str | Tensor)
        and not hasattr(style, "__array__")
    ):
        styles = list(style)
        if not styles:
            raise ValueError("no style image given: expected one or more")
        return styles
    return [style]  # type: ignore[list-item]  # whatever it is, load_image names it


def _style_size(
    picture: Picture, content: tuple[int, int], preset: Preset, scale: float
) -> tuple[int, int]:
    if preset.style_fit == "content":
        height, width = content
        return max(1, round(height * scale)), max(1, round(width * scale))
    return fit(picture.size, max(1, round(max(content) * scale)))


def _check_size(name: str, size: tuple[int, int], preset: Preset) -> None:
    smallest = preset.smallest_side
    if min(size) < smallest:
        raise ImageError(
            f"{name}: {size[1]} x {size[0]} px once resized is too small for "
            f"{preset.deepest_layer}: every side needs {smallest} px or more; raise the size"
        )
