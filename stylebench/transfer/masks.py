"""The masks of a run: gray pictures that say which part of the content takes which style.

White is inside, black is outside, and gray is in between. A mask has the aspect of its picture, at
any size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from stylebench.image.color import luminance
from stylebench.image.load import ImageError, ImageSource, Picture, fit, load_image
from stylebench.model.regions import Region

NONE, WHOLE = "none", "whole"  # in the place of a style's mask
MaskPairs: TypeAlias = "Sequence[tuple[ImageSource, ImageSource | None]]"
Size = tuple[int, int]  # (height, width) in pixels
Box = tuple[slice, slice]  # rows and columns

_BLACK = 1.5 / 255  # up to here: a JPEG's black may be a step brighter
_COARSE = 256  # px, enough to tell whether masks leave anything
_LEAST_OF_CONTENT = 1e-3  # of the picture; less is what a JPEG leaves between two masks
_LEAST_OF_STYLE = 1e-2  # likewise; less is too little for a style


@dataclass(frozen=True)
class MaskPair:
    """A part of the content, and the part of a style image that it takes its style from.

    Attributes:
        content: [1, 1, H, W] in 0..1, at its own size.
        style: likewise; None: the whole style image.
        image: the style image's index; None: the part has no style, and keeps the content.
    """

    content: Tensor
    style: Tensor | None
    image: int | None


@dataclass(frozen=True)
class Masks:
    """The masks of a run.

    Attributes:
        pairs: in the order in which they were given.
        background: indices of the style images for what the pairs leave of the content.
        style_weights: one a style image, by which those of the background are blended.
    """

    pairs: Sequence[MaskPair]
    background: Sequence[int]
    style_weights: Sequence[float]

    def regions(self, content: Size, styles: Sequence[Size]) -> list[Region]:
        """The regions that have a style, the background last; fp32 on the CPU.

        Where masks of the content overlap, they share the pixels. What they leave is the
        background, which takes its style from what no mask has of its style images.

        Args:
            content: size of the content image.
            styles: one a style image.
        """
        masks = torch.cat([_resized(pair.content, content) for pair in self.pairs])  # [P, 1, H, W]
        covered = masks.sum(0, keepdim=True)
        shared = masks / covered.clamp(min=1)
        regions = [
            self._region(mask[None], {pair.image: pair.style}, styles)
            for mask, pair in zip(shared, self.pairs, strict=True)
            if pair.image is not None
        ]
        rest = _blackened(1 - covered)
        if rest.mean() >= _LEAST_OF_CONTENT:
            parts = {image: self._rest(image, styles[image]) for image in self.background}
            regions.append(self._region(rest, parts, styles))
        return regions

    def check_blend(self) -> None:
        """Refuse blend weights where no part has several style images.

        Raises:
            ValueError: none has.
        """
        if len(self.background) < 2:
            raise ValueError(
                "style_weights are given, and by the masks every part has one style image: drop "
                "them"
            )

    def _region(
        self, content: Tensor, parts: Mapping[int, Tensor | None], styles: Sequence[Size]
    ) -> Region:
        """The region of a mask [1, 1, H, W], with the parts of its style images by their index."""
        masks = [
            None if (mask := parts.get(image)) is None else _resized(mask, size)
            for image, size in enumerate(styles)
        ]
        alone = len(parts) == 1  # and all of the region's style, whatever its weight
        shares = [
            (1.0 if alone else self.style_weights[image]) if image in parts else 0.0
            for image in range(len(styles))
        ]
        return Region(content, masks, [share / sum(shares) for share in shares])

    def _rest(self, image: int, size: Size) -> Tensor | None:
        """The part of a style image that no mask has; None, the whole, where that is too little."""
        taken = [pair.style for pair in self.pairs if pair.image == image]
        if not taken or None in taken:
            return None
        masks = torch.cat([_resized(mask, size) for mask in taken if mask is not None])
        rest = _blackened(1 - masks.sum(0, keepdim=True))
        return rest if rest.mean() >= _LEAST_OF_STYLE else None


def load_masks(
    pairs: MaskPairs,
    content: Picture,
    styles: Sequence[Picture],
    boxes: Sequence[Box | None],
    style_weights: Sequence[float],
) -> Masks:
    """Read the masks of a run.

    With one style image all masks are of it. With several the first pair with a style is of the
    first of them, and so on; style images without a pair are the background's.

    Args:
        pairs: each a mask of the content, and a mask of a style image, ``whole`` for all of that,
            or None or ``none`` for a part that keeps the content.
        content: the content image.
        styles: the style images, as they were loaded.
        boxes: the parts of them that are taken; None for the whole.
        style_weights: one a style image, adding up to 1.

    Raises:
        ImageError: a mask that cannot be read, that is black, or of another aspect than its
            picture.
        ValueError: masks of another number than style images, or nothing that has a style.
    """
    images = _images_of(pairs, len(styles))
    loaded = []
    for number, ((of_content, of_style), image) in enumerate(zip(pairs, images, strict=True), 1):
        mask = None
        if image is not None and of_style is not None and not _is(of_style, WHOLE):
            mask = _load_mask(of_style, number, "style", styles[image], boxes[image])
        loaded.append(MaskPair(_load_mask(of_content, number, "content", content), mask, image))
    left = [image for image in range(len(styles)) if image not in images]
    background = left or list(range(len(styles)))
    if not any(style_weights[image] for image in background) and len(background) > 1:
        raise ValueError(
            "style_weights are 0 for every style image without a mask: expected one above 0"
        )
    masks = Masks(loaded, background, style_weights)
    coarse = [fit(picture.size, _COARSE) for picture in (content, *styles)]
    regions = masks.regions(coarse[0], coarse[1:])
    _check_used(masks, regions, [styles[image].name for image in left])
    return masks


def style_of(source: ImageSource | None) -> str | None:
    """``none`` or ``whole`` where that is in the place of a style's mask, else None."""
    if source is None or _is(source, NONE):
        return NONE
    return WHOLE if _is(source, WHOLE) else None


def _is(source: ImageSource | None, word: str) -> bool:
    return isinstance(source, str) and source == word


def _images_of(pairs: MaskPairs, styles: int) -> list[int | None]:
    """The index of the style image of each pair; None for a pair without a style."""
    numbers = [number for number, (_, style) in enumerate(pairs) if style_of(style) != NONE]
    if styles > 1 and len(numbers) > styles:
        raise ValueError(
            f"{len(numbers)} masks with a style for {styles} style images: expected one each, in "
            "their order, or a single style image that all masks are of"
        )
    order = {number: image if styles > 1 else 0 for image, number in enumerate(numbers)}
    return [order.get(number) for number in range(len(pairs))]


def _check_used(masks: Masks, regions: Sequence[Region], left: Sequence[str]) -> None:
    """Refuse masks by which nothing has a style, or a style image paints nothing."""
    has_background = len(regions) > sum(pair.image is not None for pair in masks.pairs)
    if not regions:
        raise ValueError(
            "every mask is 'none', and together they cover the content: nothing has a style; "
            "expected a mask with a style, or a part that no mask covers"
        )
    if left and not has_background:
        raise ValueError(
            f"the style {left[0]} has no mask and is for what the masks leave of the content, and "
            "they cover all of it: drop the style, or give it a mask"
        )


def _load_mask(
    source: ImageSource, number: int, role: str, picture: Picture, box: Box | None = None
) -> Tensor:
    """A mask [1, 1, H, W] in 0..1, of the part ``box`` of a picture."""
    loaded = load_image(source)
    name = f"mask {number}, {loaded.name}"
    if not _same_aspect(loaded.size, picture.size):
        (h, w), (height, width) = loaded.size, picture.size
        raise ImageError(
            f"{name}: is {w} x {h} px, and the {role} {picture.name} {width} x {height} px: "
            "expected the same aspect, at any size"
        )
    values = luminance(loaded.rgb)[None, :1]  # of a mask in color, what Pillow makes gray of it
    if loaded.alpha is not None:
        values = values - (1 - loaded.alpha)  # the white that it was composited over
    values = _blackened(values.clamp(max=1))
    if box is not None:
        values = _resized(values, picture.size)[:, :, *box]
    if not bool(values.any()):
        raise ImageError(
            f"{name}: is black, or transparent, all over the {role} {picture.name}; expected white "
            "where the region is"
        )
    return values


def _blackened(mask: Tensor) -> Tensor:
    """``mask`` with 0 where it is all but black: a region ends where its mask does."""
    return torch.where(mask > _BLACK, mask, 0)


def _same_aspect(mask: Size, picture: Size) -> bool:
    """Whether one is the other resized, to the pixel that a side was rounded by."""
    (h, w), (height, width) = mask, picture
    off = abs(h * width - w * height)
    return off <= max(h, w, height, width)


def _resized(mask: Tensor, size: Size) -> Tensor:
    """A mask [1, 1, H, W] at another size: without overshoot, so that sums of masks stay sums."""
    if mask.shape[2:] == size:
        return mask
    resized = F.interpolate(mask, size, mode="bilinear", antialias=True, align_corners=False)
    return resized.clamp(0, 1)
