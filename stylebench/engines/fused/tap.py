"""The losses taken at one layer of the fused engine, and their gradient, without autograd.

With fp16 scaling (``stylebench.engines.fp16_scaling``) the channels of a layer may have been
divided by different powers of two. ``channel_scale`` [N] then brings them to one power before a
loss is taken: features are multiplied by it, Gram matrices by its outer product. The style loss of
such a layer is finished in plain PyTorch, since Gram matrices are small.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

import stylekernels as sk
from stylebench.engines.fp16_scaling import equalized
from stylekernels.ops.pointwise.cpu import mask_
from stylekernels.ops.style.cpu import loss_of_gram_


@dataclass
class Tap:
    """One layer's losses, and what their gradient needs until the backward pass.

    Attributes:
        style: target A [1, N, N] and coefficient k, or None without a style loss.
        content: target P [1, N, H, W] and coefficient c, or None without a content loss.
        channel_scale: [N], the powers of two that channels are multiplied by before a loss, or
            None where they all have one scale already.
        slope: S = (4 k / M) (G - A) [1, N, N], from the forward pass.
    """

    style: tuple[Tensor, float] | None
    content: tuple[Tensor, float] | None
    channel_scale: Tensor | None = None
    slope: Tensor | None = None

    def losses(self, x: Tensor, layer: str) -> dict[str, Tensor]:
        """Loss by term name: content and style, if taken, of ``layer``'s features [1, N, H, W]."""
        losses = {}
        if self.content is not None:
            loss = sk.content_loss(equalized(x, self.channel_scale), *self.content)
            losses[f"content {layer}"] = loss
        if self.style is not None and self.channel_scale is None:
            losses[f"style {layer}"], self.slope = sk.style_loss_forward(x, *self.style)
        elif self.style is not None and self.channel_scale is not None:
            A, k = self.style
            loss, slope = loss_of_gram_(gram(x, self.channel_scale), A, k, prod(x.shape[2:]))
            losses[f"style {layer}"], self.slope = loss, slope * _outer(self.channel_scale)
        return losses

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
        plain = P is None or self.channel_scale is None
        if above is None and self.slope is not None and relu and plain:
            return sk.style_tap_backward(None, x, self.slope, P, c)  # no zeros to write and read
        gradient = torch.zeros_like(x) if above is None else above
        if P is not None and self.channel_scale is not None:
            v = self.channel_scale.view(1, -1, 1, 1)
            gradient += (2 * c * v) * (x * v - P)
            P = None
        if self.slope is not None and relu:
            sk.style_tap_backward_(gradient, x, self.slope, P, c)
            return gradient
        if self.slope is not None:
            gradient += sk.style_loss_backward(self.slope.new_ones(()), x, self.slope)
        if P is not None:
            sk.content_loss_backward_(gradient, x, P, c)
        return mask_(gradient, x) if relu else gradient


def gram(x: Tensor, channel_scale: Tensor | None) -> Tensor:
    """Gram matrix [1, N, N] of ``equalized(x, channel_scale)``, bit for bit, without a copy of x.

    A factor that is a power of two changes no rounding, so it may follow the product.
    """
    return sk.gram(x) if channel_scale is None else sk.gram(x) * _outer(channel_scale)


def _outer(channel_scale: Tensor) -> Tensor:
    """Factor [N, N] of a Gram matrix for factors [N] of the features."""
    return channel_scale[:, None] * channel_scale[None, :]
