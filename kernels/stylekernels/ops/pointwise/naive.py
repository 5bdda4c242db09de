"""The pointwise formulas in plain torch: the oracle, to be read beside the kernels."""

import torch
from torch import Tensor


def content_loss(x: Tensor, target: Tensor, weight: float) -> Tensor:
    """Return c ||F - P||^2, a scalar; Gatys, Ecker, Bethge, CVPR 2016, eq. 1, c for its 1/2."""
    return weight * (x - target).square().sum()


def content_loss_backward(x: Tensor, target: Tensor, weight: float) -> Tensor:
    """Return dL/dF = 2 c (F - P)."""
    return 2 * weight * (x - target)


def bias_relu(x: Tensor, bias: Tensor) -> Tensor:
    """Return relu(x + bias) of [B, C, H, W] and [C]."""
    return torch.relu(x + bias.view(1, -1, 1, 1))


def mask(gradient: Tensor, x: Tensor) -> Tensor:
    """Return the gradient where the ReLU that made `x` was on, else 0."""
    return torch.where(x <= 0, 0, gradient)
