"""ReLU and pooling in plain torch: the oracle, to be read beside the kernels."""

import torch.nn.functional as F
from torch import Tensor


def relu_avg_pool2d(x: Tensor) -> Tensor:
    """Return the 2 x 2 averages [B, C, H // 2, W // 2] of relu(x)."""
    return F.avg_pool2d(F.relu(x), 2)


def relu_max_pool2d(x: Tensor) -> Tensor:
    """Return the 2 x 2 maxima [B, C, H // 2, W // 2] of relu(x)."""
    return F.max_pool2d(F.relu(x), 2)
