"""The losses of regions at one layer of the fused engine, and their gradient, without autograd.

A guided Gram matrix is the Gram matrix of masked features T . F, so the kernels of ``Tap`` serve
here as well. A mask is cut to the box outside of which it is 0, and the features in that box are
masked tile by tile: on a CPU no masked map is ever whole. See ``stylebench.model.regions``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

import stylekernels as sk
from stylebench.engines.base import Targets
from stylebench.engines.fused.tap import Tap, gram
from stylebench.engines.fused.tiling import row_tiles
from stylebench.model.objective import LayerWeights
from stylebench.model.precision import in_fp64
from stylebench.model.regions import Region
from stylekernels.ops.style.cpu import loss_of_gram_
from stylekernels.runtime.layout import accumulator


@dataclass(frozen=True)
class Guide:
    """The guidance map of one region at one layer, or what a window of the layer has of it.

    Attributes:
        T: [1, 1, h, w] in the dtype of losses, the box of the map outside of which it is 0.
        top: the box's first row in the layer's map, or in the window.
        left: its first column.
        mass: sum(T^2) of the whole map.
    """

    T: Tensor
    top: int
    left: int
    mass: float

    @classmethod
    def of(cls, T: Tensor) -> Guide | None:
        """The guide of a map [1, 1, H, W]; None where it is 0 everywhere."""
        inside = T[0, 0] > 0
        rows, columns = (inside.any(axis).nonzero()[:, 0].tolist() for axis in (1, 0))
        if not rows:
            return None
        box = T[:, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].contiguous()
        return cls(box, rows[0], columns[0], in_fp64(T).square().sum().item())

    def within(self, rows: slice, columns: slice = slice(None)) -> Guide | None:
        """The part in a window of the map; None where they have no position in common.

        Args:
            rows: of the window.
            columns: likewise.
        """
        height, width = self.T.shape[2:]
        top, first, last = _overlap(self.top, height, rows)
        left, start, stop = _overlap(self.left, width, columns)
        if first >= last or start >= stop:
            return None
        return Guide(self.T[:, :, first:last, start:stop], top, left, self.mass)

    def box(self, x: Tensor) -> Tensor:
        """The box of a map [1, N, H, W], a view [1, N, h, w]."""
        height, width = self.T.shape[2:]
        return x[:, :, self.top : self.top + height, self.left : self.left + width]

    def masked(self, x: Tensor) -> Tensor:
        """T . F [1, N, h, w] of the features in the box, rounded once to their dtype."""
        x = self.box(x)
        memory = torch.empty_like(x, memory_format=torch.channels_last)
        return torch.mul(x, self.T, out=memory)

    def gram(self, x: Tensor, channel_scale: Tensor | None) -> Tensor:
        """The guided Gram matrix [1, N, N] of features [1, N, H, W], summed over tiles."""
        height, width = self.T.shape[2:]
        total = x.new_zeros((), dtype=self.T.dtype)
        for start, stop in row_tiles(height, width, x.shape[1], x):
            part = replace(self, T=self.T[:, :, start:stop], top=self.top + start)
            total = total + gram(part.masked(x), channel_scale) * part.T.numel()
        return total / self.mass


@dataclass(frozen=True)
class RegionLoss:
    """The style loss of one region at one layer.

    Attributes:
        guide: where the region is.
        target: A_r [1, N, N].
        weight: k_l times the region's share of the layer's positions.
        slope: as ``Tap.slope``, by masked features.
    """

    guide: Guide
    target: Tensor
    weight: float
    slope: tuple[Tensor, Tensor] | None = None

    def loss(self, x: Tensor, v: Tensor | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Loss and slope of features [1, N, H, W], with their ``channel_scale``."""
        height, width = self.guide.T.shape[2:]
        if len(row_tiles(height, width, x.shape[1], x)) == 1:
            # the kernels divide by all positions of the box, and G_r by the mask's mass
            share = self.guide.mass / (height * width)
            target, weight = self.target * share, self.weight / share**2
            loss, *slope = sk.style_loss_forward(self.guide.masked(x), target, weight, v)
            return loss, (slope[0], slope[1])
        G, mass = self.guide.gram(x, v), self.guide.mass
        loss, *slope = loss_of_gram_(G, self.target, self.weight, mass, x.dtype, v)
        return loss, (slope[0], slope[1])

    def add_gradient(self, gradient: Tensor, x: Tensor, v: Tensor | None) -> None:
        """Add T . (S (T . F)) to a window's ``gradient`` [1, N, H, W], of its features ``x``."""
        assert self.slope is not None
        one = x.new_ones((), dtype=self.slope[1].dtype)
        part = sk.style_loss_backward(one, self.guide.masked(x), *self.slope, v)
        box = self.guide.box(gradient)
        box += part.mul_(self.guide.T)


@dataclass
class GuidedTap(Tap):
    """A ``Tap`` whose style losses are those of regions.

    Attributes:
        regions: those that have a position at the layer, or in the window of a tile.
    """

    regions: Sequence[RegionLoss] = ()

    def losses(self, x: Tensor, layer: str) -> dict[str, Tensor]:
        """As ``Tap.losses``; the style loss is the sum of the regions'."""
        losses = super().losses(x, layer)
        losses[f"style {layer}"] = x.new_zeros((), dtype=accumulator(x.dtype))
        regions = []
        for region in self.regions:
            loss, slope = region.loss(x, self.channel_scale)
            losses[f"style {layer}"] += loss
            regions.append(replace(region, slope=slope))
        self.regions = regions
        return losses

    def add_gradient(self, above: Tensor | None, x: Tensor, relu: bool, rows: slice) -> Tensor:
        """As ``Tap.add_gradient``."""
        gradient = torch.zeros_like(x) if above is None else above
        for region in self.within(rows).regions:
            region.add_gradient(gradient, x, self.channel_scale)
        return super().add_gradient(gradient, x, relu, rows)

    def within(self, rows: slice, columns: slice = slice(None)) -> GuidedTap:
        """The tap with the regions' parts in a window of the map; its content loss is as it was."""
        parts = [
            replace(region, guide=guide)
            for region in self.regions
            if (guide := region.guide.within(rows, columns))
        ]
        return replace(self, regions=parts)


def region_losses(targets: Targets, style: LayerWeights) -> dict[str, list[RegionLoss]]:
    """Layer -> the losses of the regions that have a position there; empty without masks.

    Args:
        targets: with the regions' Gram matrices and guidance.
        style: layer -> k_l.
    """
    losses = {}
    for layer, T in targets.guidance.items():
        k_of_position = style[layer] / T[0].numel()
        guides = [Guide.of(one[None]) for one in T]
        losses[layer] = [
            RegionLoss(guide, A[None], k_of_position * guide.mass)
            for guide, A in zip(guides, targets.style[layer], strict=True)
            if guide
        ]
    return losses


def style_grams(
    x: Tensor, image: int, layer: str, regions: Sequence[Region], channel_scale: Tensor | None
) -> Tensor:
    """As ``model.losses.style_grams``, of features [1, N, H, W] as the engine has them."""
    grams = []
    for region in regions:
        T = region.style_guidance(image, layer)
        guide = None if T is None else Guide.of(T)
        G = gram(x, channel_scale) if guide is None else guide.gram(x, channel_scale)
        grams.append(region.style_weights[image] * G)
    return torch.cat(grams)


def _overlap(start: int, length: int, window: slice) -> tuple[int, int, int]:
    """The part of a box in a window, along one side.

    Args:
        start: of the box.
        length: of it.
        window: in the same positions.

    Returns:
        The part's first position in the window; its first and the one after its last in the box.
    """
    first = 0 if window.start is None else window.start
    stop = start + length if window.stop is None else window.stop
    begin, end = max(start, first), min(start + length, stop)
    return begin - first, begin - start, end - start
