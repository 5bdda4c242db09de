"""The losses taken at one layer of the fused engine, and their gradient, without autograd.

With fp16 scaling (``stylebench.engines.fp16_scaling``) the channels of a layer may have been
divided by different powers of two. ``channel_scale`` [N] then brings them to one power before a
loss is taken; the kernels multiply features and Gram matrices by it as they read them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import stylekernels as sk
from stylekernels.ops.pointwise.cpu import mask_


@dataclass(frozen=True)
class StyleRows:
    """Rows of a tap that has a style loss alone, whose gradient is still to be taken.

    Attributes:
        x: the features [1, N, H', W], of a ReLU.
        slope: as ``Tap.slope``.
        channel_scale: as ``Tap.channel_scale``.
    """

    x: Tensor
    slope: tuple[Tensor, Tensor]
    channel_scale: Tensor | None


@dataclass
class Tap:
    """One layer's losses, and what their gradient needs until the backward pass.

    Attributes:
        style: target A [1, N, N] and coefficient k, or None without a style loss.
        content: target P [1, N, H, W] and coefficient c, or None without a content loss.
        channel_scale: [N], the powers of two that channels are multiplied by before a loss, or
            None where they all have one scale already.
        slope: S = (4 k / M) (G - A) from the forward pass, as s [1, N, N] and its scale [1].
    """

    style: tuple[Tensor, float] | None
    content: tuple[Tensor, float] | None
    channel_scale: Tensor | None = None
    slope: tuple[Tensor, Tensor] | None = None

    def losses(self, x: Tensor, layer: str) -> dict[str, Tensor]:
        """Loss by term name: content and style, if taken, of ``layer``'s features [1, N, H, W]."""
        losses = {}
        if self.content is not None:
            loss = sk.content_loss(x, *self.content, self.channel_scale)
            losses[f"content {layer}"] = loss
        if self.style is not None:
            loss, s, scale = sk.style_loss_forward(x, *self.style, self.channel_scale)
            losses[f"style {layer}"], self.slope = loss, (s, scale)
        return losses

    def style_rows(self, x: Tensor) -> StyleRows | None:
        """The tap at the rows ``x`` [1, N, H', W]; None if it has more than one style loss."""
        if self.slope is None or self.content is not None:
            return None
        return StyleRows(x, self.slope, self.channel_scale)

    def add_gradient(self, above: Tensor | None, x: Tensor, relu: bool, rows: slice) -> Tensor:
        """Add the losses' gradient to ``above`` in place, then mask it where a ReLU was off.

        Args:
            above: gradient from the layers above [1, N, H', W], or None for zero.
            x: the features [1, N, H', W] of the same rows.
            relu: whether a ReLU made ``x``.
            rows: the H' rows' place among the map's H.
        """
        P, c = self.content or (None, 0.0)
        if P is not None:
            P = P[:, :, rows]  # [1, N, H, W] -> [1, N, H', W]
        v = self.channel_scale
        if above is None and self.slope is not None and relu:  # no zeros to write and read
            return sk.style_tap_backward(None, x, *self.slope, P, c, v)
        gradient = torch.zeros_like(x) if above is None else above
        if self.slope is not None and relu:
            sk.style_tap_backward_(gradient, x, *self.slope, P, c, v)
            return gradient
        if self.slope is not None:
            one = x.new_ones((), dtype=self.slope[1].dtype)
            gradient += sk.style_loss_backward(one, x, *self.slope, v)
        if P is None:
            return mask_(gradient, x) if relu else gradient
        sk.content_loss_backward_(gradient, x, P, c, v, relu)
        return gradient


def gram(x: Tensor, channel_scale: Tensor | None) -> Tensor:
    """Gram matrix [1, N, N] of ``equalized(x, channel_scale)``, bit for bit, without a copy of x.

    A factor that is a power of two changes no rounding, so it may follow the product.
    """
    return sk.gram(x) if channel_scale is None else sk.gram(x) * _outer(channel_scale)


def _outer(channel_scale: Tensor) -> Tensor:
    """Factor [N, N] of a Gram matrix for factors [N] of the features."""
    return channel_scale[:, None] * channel_scale[None, :]
