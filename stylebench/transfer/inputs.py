"""The pictures and weights of a run, loaded once."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from stylebench.image.load import ImageError, ImageSource, Picture, fit, load_image
from stylebench.model.precision import PRECISIONS
from stylebench.model.presets import Preset
from stylebench.model.vgg import Weights
from stylebench.model.weights import load_weights
from stylebench.transfer.color import LUMINANCE, STYLE, in_color
from stylebench.transfer.device import resolve_precision
from stylebench.transfer.masks import Box, Masks, load_masks
from stylebench.transfer.seamless import check_closes
from stylebench.transfer.settings import Settings

if TYPE_CHECKING:
    from stylebench.transfer.reuse import EngineCache

Styles: TypeAlias = "ImageSource | Sequence[ImageSource]"

_LARGEST_LENGTH = 2**62  # px, beyond all memory; floats may be infinite
_SEVERAL = 4  # times the content's area, that a style which keeps its aspect may have
_OPAQUE = 0.5  # alpha, from which a pixel counts as painted


@dataclass
class Inputs:
    """Everything of a run that comes from outside, at its own size.

    Attributes:
        content: the picture to repaint.
        styles: the pictures to take the style from, one or more.
        init: the picture that ``Settings.init`` is or names as a file, or None.
        weights: VGG-19's; None before they are read, and once they were taken.
        source: where weights are read from that are None.
        engines: kept from other runs, if this one may take them.
        masks: which part of the content takes which style, or None.
        loaded: as they were loaded, where ``Settings.color`` has changed the pictures.
    """

    content: Picture
    styles: list[Picture]
    init: Picture | None
    weights: Weights | None = None
    source: str | Path | Weights | None = None
    engines: EngineCache | None = None
    masks: Masks | None = None
    loaded: Inputs | None = None

    def in_color(self, color: str) -> Inputs:
        """As a run with this choice of ``COLORS`` sees them."""
        if color == STYLE:
            return self
        pictures = in_color(self.content, self.styles, self.init, color)
        return replace(self, **pictures._asdict(), loaded=self)

    def chrominance(self, color: str) -> Tensor | None:
        """RGB [3, H, W], at its own size, that the result takes its chrominance from, if any."""
        return self.loaded.content.rgb if color == LUMINANCE and self.loaded else None

    def read_weights(self) -> Weights:
        """The weights, read when they are first needed.

        Raises:
            WeightsError: they cannot be had.
        """
        if self.weights is None:
            if self.source is None:
                raise RuntimeError("the weights were taken by the last phase of a run")
            self.weights = load_weights(self.source)
        return self.weights

    def weights_for(self, *, last: bool) -> Weights:
        """The weights, which the ``last`` problem takes: no later one can be built.

        Engines convert weights layer by layer, and held here every layer would be there twice.
        """
        weights = self.read_weights()
        if last:
            self.weights = self.source = None
        return weights


@dataclass(frozen=True)
class Sizes:
    """(height, width) in pixels that the pictures of a run are resized to."""

    content: tuple[int, int]
    styles: list[tuple[int, int]]


def load_pictures(content: ImageSource, style: Styles, settings: Settings) -> Inputs:
    """Read the pictures of a run, without the weights.

    Args:
        content: a path, PIL image, numpy array or tensor; see ``image.load.load_image``.
        style: the same, or a sequence of several.
        settings: of the run, at any of its sizes.

    Transparent parts of a style outside the box of its opaque ones are cut off.

    Raises:
        ImageError: a picture or mask that cannot be read, or a size too small for the layers.
        ValueError: no style image, style weights or masks of another number, or a factor beyond
            the precision.
    """
    photo = load_image(content)
    originals = [load_image(source) for source in as_list(style)]
    paintings = [_opaque_part(original) for original in originals]
    settings = settings.sized(photo.size)
    style_weights = settings.normalized_style_weights(len(paintings))
    init = None
    if settings.init is not None and settings.starts_from_file:
        init = load_image(settings.init)
    masks = None
    if settings.masks:
        boxes = [_opaque_box(original) for original in originals]
        masks = load_masks(settings.masks, photo, originals, boxes, style_weights)
        if settings.style_weights is not None and len(paintings) > 1:
            masks.check_blend()
    inputs = Inputs(photo, paintings, init, source=settings.weights, masks=masks)
    fit_pictures(inputs, settings, min(settings.schedule()))
    sizes = fit_pictures(inputs, settings, max(settings.schedule()))
    for longest in settings.schedule() if settings.seamless else ():
        closed = fit_pictures(inputs, settings, longest).content
        check_closes(closed, settings.resolved_preset())
    _tell_of_bounded(inputs, sizes, settings)
    _check_factors(settings, sizes.content)
    return inputs.in_color(settings.color)


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


def as_list(style: Styles) -> list[ImageSource]:
    """One style image or several, as a list.

    Raises:
        ValueError: there is none.
    """
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
    """The size of a style image, which is bounded where it keeps its own aspect.

    At the content's longest side a square would be far larger than a panorama beside it: where its
    area is several times the content's, it gets the content's area. A texture has no content, and
    its style images are as large as they are.
    """
    height, width = (_scaled(side, scale) for side in content)
    if preset.style_fit == "content":
        return height, width
    size = fit(picture.size, max(height, width))
    excess = size[0] * size[1] / (height * width)
    if excess <= _SEVERAL or not preset.content_layers:
        return size
    return fit(picture.size, max(1, round(max(size) / sqrt(excess))))


def _scaled(side: int, scale: float) -> int:
    return max(1, round(min(side * scale, _LARGEST_LENGTH)))


def _tell_of_bounded(inputs: Inputs, sizes: Sizes, settings: Settings) -> None:
    """Warn of style images that are not as long as the preset would have them."""
    if settings.resolved_preset().style_fit == "content":
        return
    longest = _scaled(max(sizes.content), settings.style_scale)
    for picture, size in zip(inputs.styles, sizes.styles, strict=True):
        if size != fit(picture.size, longest):
            warnings.warn(
                f"style {picture.name}: taken at {size[1]} x {size[0]} px, the content's area, and "
                f"not at its length of {longest} px; style_scale makes it larger",
                stacklevel=2,
            )


def _opaque_part(picture: Picture) -> Picture:
    """A style image without the transparent parts around the opaque one.

    Raises:
        ImageError: nothing of it can be seen.
    """
    box = _opaque_box(picture)
    if box is None or picture.alpha is None:
        return picture
    if bool((picture.alpha[0][box] < 1).any()):
        warnings.warn(
            f"style {picture.name}: its transparent parts are taken as white paint; crop or fill "
            "them",
            stacklevel=2,
        )
    return replace(picture, rgb=picture.rgb[:, *box].contiguous(), alpha=None)


def _opaque_box(picture: Picture) -> Box | None:
    """The rows and columns around the opaque part of a style image; None where all of it is.

    Raises:
        ImageError: as ``_opaque_part``.
    """
    if picture.alpha is None:
        return None
    alpha = picture.alpha[0]
    painted = alpha >= _OPAQUE if bool((alpha >= _OPAQUE).any()) else alpha > 0
    rows, columns = (painted.any(axis).nonzero()[:, 0].tolist() for axis in (1, 0))
    if min(len(rows), len(columns)) < 2:  # less has no texture
        raise ImageError(f"{picture.name}: hardly a pixel is opaque, expected a style to be seen")
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _check_factors(settings: Settings, content: tuple[int, int]) -> None:
    """Refuse loss weights whose products leave the range of losses, fp32 or fp64, or are all 0."""
    preset = settings.resolved_preset()
    dtype = PRECISIONS[resolve_precision(settings)].wide
    largest, smallest = torch.finfo(dtype).max, torch.finfo(dtype).tiny
    factors = preset.objective(*content).factors
    for term, factor in factors.items():
        if not factor <= largest:
            raise ValueError(
                f"{preset.weight_behind(term)}: too large, the factor of {term!r} is {factor:g}, "
                f"and losses end at {largest:.2g}; lower it"
            )
        if 0 < factor < smallest:
            raise ValueError(
                f"{preset.weight_behind(term)}: too small, the factor of {term!r} is {factor:g}, "
                f"and losses begin at {smallest:.2g}; raise it, or give 0"
            )
    if not any(factors.values()):
        raise ValueError(
            "content_weight and style_weight and tv_weight come to 0 everywhere: there is no loss; "
            "expected one above 0"
        )


def _check_size(name: str, size: tuple[int, int], preset: Preset) -> None:
    smallest = preset.smallest_side
    if min(size) < smallest:
        raise ImageError(
            f"{name}: {size[1]} x {size[0]} px once resized is too small for "
            f"{preset.deepest_layer}: every side needs {smallest} px or more; raise the size "
            "or style_scale"
        )
