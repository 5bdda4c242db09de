"""The gradient as torch's transposed convolution."""

import torch.nn.functional as F
from torch import Tensor

from stylekernels.runtime.layout import output_format


def dgrad(gradient: Tensor, weight: Tensor) -> Tensor:
    """Return dL/dx of conv2d(x, weight, padding=1), dense in the format of ``gradient``."""
    x = F.conv_transpose2d(gradient, weight, padding=1)
    return x.contiguous(memory_format=output_format(gradient))
