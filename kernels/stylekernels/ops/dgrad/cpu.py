"""The gradient as torch's transposed convolution."""

import torch
import torch.nn.functional as F
from torch import Tensor

from stylekernels.ops.image import cpu


def dgrad(gradient: Tensor, weight: Tensor, factor: float, dtype: torch.dtype) -> Tensor:
    """Return factor * dL/dx of conv2d(x, weight, padding=1), contiguous."""
    x = F.conv_transpose2d(gradient, weight, padding=1)
    return cpu.image_gradient(x, factor, x.shape[1], dtype)
