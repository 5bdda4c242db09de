"""A network's input and the image's gradient in plain torch."""

import torch
from torch import Tensor


def network_input(image: Tensor, factor: float, parts: int, x: Tensor, check: Tensor) -> None:
    """Write the input of `op.network_input` to `x` [B, channels, H, W], and its check [1]."""
    sources = image.shape[1]
    scaled = image if factor == 1.0 else image * factor
    rounded = x[:, :sources].copy_(scaled)
    if parts == 2:
        x[:, sources : 2 * sources].copy_(scaled - rounded)
    x[:, parts * sources :].zero_()
    check.copy_(0 * image.sum())


def image_gradient(gradient: Tensor, factor: float, channels: int, dtype: torch.dtype) -> Tensor:
    """Return the gradient [B, channels, H, W] of `op.image_gradient`."""
    output = gradient.new_empty((len(gradient), channels, *gradient.shape[2:]), dtype=dtype)
    output.copy_(gradient[:, :channels])
    return output if factor == 1.0 else output.mul_(factor)
