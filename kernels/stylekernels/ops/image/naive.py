"""The formulas of a network's input and of the image's gradient: the oracle of the kernels."""

import torch
from torch import Tensor


def network_input(
    image: Tensor, factor: float, dtype: torch.dtype, parts: int, channels: int
) -> Tensor:
    """Return factor * image [B, C, H, W] as `parts` numbers of `dtype` that add up to it.

    The first part is the image rounded, every other the rounding error of those before it. Zeros
    follow them up to `channels`.
    """
    rest = image * factor
    blocks = []
    for _ in range(parts):
        blocks.append(rest.to(dtype))
        rest = rest - blocks[-1].to(rest.dtype)
    missing = channels - parts * image.shape[1]
    return torch.nn.functional.pad(torch.cat(blocks, 1), (0, 0, 0, 0, 0, missing))


def image_gradient(gradient: Tensor, factor: float, channels: int, dtype: torch.dtype) -> Tensor:
    """Return factor times the first `channels` of [B, C, H, W] in `dtype`."""
    return factor * gradient[:, :channels].to(dtype)
