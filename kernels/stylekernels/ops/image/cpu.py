"""A network's input and the image's gradient in plain torch."""

import torch
from torch import Tensor


def network_input(image: Tensor, factor: float, parts: int, x: Tensor, check: Tensor) -> None:
    """Write the input of `op.network_input` to `x` [B, channels, H, W], and its check [1]."""
    scaled = image if factor == 1.0 else image * factor
    if parts == 2:
        rounded = scaled.to(x.dtype)
        scaled = torch.cat((rounded, (scaled - rounded).to(x.dtype)), dim=1)
    taken = scaled.shape[1]
    x[:, :taken].copy_(scaled)
    x[:, taken:].zero_()
    check.copy_(0 * image.sum())


def image_gradient(gradient: Tensor, factor: float, channels: int, dtype: torch.dtype) -> Tensor:
    """Return the gradient [B, channels, H, W] of `op.image_gradient`."""
    output = gradient.new_empty((len(gradient), channels, *gradient.shape[2:]), dtype=dtype)
    output.copy_(gradient[:, :channels])
    return output if factor == 1.0 else output.mul_(factor)
