"""The way back through a ReLU on a CPU: a gradient masked by what the ReLU gave."""

import torch
from torch import Tensor

from stylekernels.layout import CHUNK, bands

INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By bytes, the whole numbers that floats are read as. Of floats above 0 they are above 0."""


def mask_(gradient: Tensor, x: Tensor) -> Tensor:
    """Zero `gradient` in place where the ReLU that made `x` was off; return it.

    Half precision is masked by its bits: torch would convert every element to fp32 and back, which
    takes two to three times as long.

    Args:
        gradient: [B, C, H, W] or [M, C].
        x: likewise; what is not a number counts as off if its sign bit is set.
    """
    if gradient.is_cuda or gradient.element_size() != 2 or gradient.dtype != x.dtype:
        return torch.ops.aten.threshold_backward.grad_input(gradient, x, 0, grad_input=gradient)
    bits, source = gradient.view(INTEGERS[2]), x.view(INTEGERS[2])
    for band in bands(x, 2 * CHUNK):
        bits[..., band, :].mul_(source[..., band, :].clamp(0, 1))
    return gradient
