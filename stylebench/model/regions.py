"""Regions: parts of the picture, each with a style of its own.

Gatys, Ecker, Bethge, Hertzmann, Shechtman, "Controlling Perceptual Factors in Neural Style
Transfer" (CVPR 2017, arXiv 1611.07865), section 4. The features of a layer are multiplied by a
guidance map T_r, and a guided Gram matrix is that of the product::

    G_r = (T_r . F) (T_r . F)^T / sum(T_r^2)

A mask says how much of every pixel is in the region, and T_r is its square root: a position counts
in G_r by the mask itself, and regions whose masks add up to 1 share the pull of the style at a soft
edge. The loss of a region counts by its share of the picture, sum(T_r^2) / M. So every position is
pulled as it would be without masks, 4 k / M (G_r - A_r) F, however large its region is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as nnf
from torch import Tensor

from stylebench.model.vgg import smallest_side


@dataclass(frozen=True)
class Region:
    """A part of the content image, and the parts of the style images that it takes its style from.

    Attributes:
        content: [1, 1, H, W] in 0..1, of the content image's pixels; None: the whole of it.
        styles: one a style image, [1, 1, H', W'] of its pixels, or None for the whole of it.
        style_weights: one a style image, adding up to 1; 0 where it has no part in the region.
    """

    content: Tensor | None
    styles: Sequence[Tensor | None]
    style_weights: Sequence[float]

    def to(self, like: Tensor) -> Region:
        """The region in the dtype and on the device of ``like``."""
        content = None if self.content is None else self.content.to(like)
        styles = [None if mask is None else mask.to(like) for mask in self.styles]
        return replace(self, content=content, styles=styles)

    def style_guidance(self, image: int, layer: str) -> Tensor | None:
        """T [1, 1, H', W'] of a style image, by its index; None for the whole of it."""
        mask = self.styles[image]
        return None if mask is None else guidance(mask, layer)

    def has_style_at(self, layer: str) -> bool:
        """Whether a mask of its style images has a position at ``layer``.

        The last rows and columns of a picture are in no position of a deep layer, and a mask may
        have nothing else.
        """
        used = [mask for mask, w in zip(self.styles, self.style_weights, strict=True) if w]
        return all(mask is None or bool(guidance(mask, layer).any()) for mask in used)


def whole_picture(style_weights: Sequence[float]) -> Region:
    """The one region of a run without masks."""
    return Region(None, [None] * len(style_weights), style_weights)


def guidance(mask: Tensor, layer: str) -> Tensor:
    """T [R, 1, H', W'] at a layer, of masks [R, 1, H, W]: the root of their mean.

    The mean is over the pixels that the layer's position was pooled from, as the network pools.
    """
    return nnf.avg_pool2d(mask, smallest_side(layer)).sqrt()


def guidance_at(regions: Sequence[Region], layers: Iterable[str]) -> dict[str, Tensor]:
    """Layer -> T [R, 1, H', W'] of all regions in the content image; empty without masks.

    It is 0 where a region has no style at the layer.
    """
    masks = [region.content for region in regions if region.content is not None]
    if not masks:
        return {}
    guides = {}
    for layer in layers:
        has_style = masks[0].new_tensor([region.has_style_at(layer) for region in regions])
        guides[layer] = guidance(torch.cat(masks), layer) * has_style.view(-1, 1, 1, 1)
    return guides


def mass(T: Tensor) -> Tensor:
    """Sum(T^2) of every region, [R, 1, 1], of T [R, 1, H, W]."""
    return T.square().flatten(2).sum(-1, keepdim=True)
