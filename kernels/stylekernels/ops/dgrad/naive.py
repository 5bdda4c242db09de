"""The gradient by its definition, in plain torch: the oracle, to be read beside the kernel."""

import torch.nn.functional as F
from torch import Tensor

from stylekernels.ops.style.naive import style_tap_backward


def dgrad(gradient: Tensor, weight: Tensor) -> Tensor:
    """Return dL/dx of y = conv2d(x, weight, padding=1), from dL/dy.

    Output y[h, w] reads input x[h + i - 1, w + j - 1] with the kernels' row i and column j, so
    x[h, w] gets, of every i and j, what y[h + 1 - i, w + 1 - j] has.
    """
    height, width = gradient.shape[2:]
    padded = F.pad(gradient, (1, 1, 1, 1))
    total = gradient.new_zeros(len(gradient), weight.shape[1], height, width)
    for i in range(3):
        for j in range(3):
            shifted = padded[:, :, 2 - i : 2 - i + height, 2 - j : 2 - j + width]
            total += (shifted.mT.transpose(1, 3) @ weight[:, :, i, j]).permute(0, 3, 1, 2)
    return total


def tap_dgrad(gradient: Tensor, y: Tensor, s: Tensor, weight: Tensor) -> Tensor:
    """Return dL/dx of y = relu(conv2d(x, weight, padding=1) + bias), where L has y's style loss.

    Args:
        gradient: dL/dy without the style loss, [B, K, H, W].
        y: [B, K, H, W].
        s: S, [B, K, K].
        weight: [K, C, 3, 3].
    """
    return dgrad(style_tap_backward(gradient, y, s), weight)
