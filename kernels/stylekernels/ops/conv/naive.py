"""Winograd's convolution in plain torch, readable beside the formula: the oracle."""

import torch
import torch.nn.functional as F
from torch import Tensor

from stylekernels.ops.conv.transforms import (
    PATCH,
    TILE,
    both_ways,
    input_transform,
    kernel_transform,
    output_transform,
)


def winograd(x: Tensor, weight: Tensor) -> Tensor:
    """Return the convolution of [B, C, H, W] with [K, C, 3, 3] and padding 1: [B, K, H, W]."""
    height, width = x.shape[2:]
    below, right = -height % TILE, -width % TILE
    padded = F.pad(x, (1, 1 + right, 1, 1 + below))
    patches = padded.unfold(2, PATCH, TILE).unfold(3, PATCH, TILE)  # [B, C, th, tw, 6, 6]
    d = patches.flatten(4).unbind(-1)
    v = torch.stack(both_ways(input_transform, d))  # [36, B, C, th, tw]
    u = torch.stack(both_ways(kernel_transform, weight.flatten(2).unbind(-1)))  # [36, K, C]
    m = torch.einsum("pbcij,pkc->pbkij", v, u).unbind(0)
    y = torch.stack(both_ways(output_transform, m), -1).unflatten(-1, (TILE, TILE))
    whole = y.permute(0, 1, 2, 4, 3, 5).flatten(4, 5).flatten(2, 3)
    return whole[:, :, :height, :width]
