"""The style formulas of the paper in plain torch: the oracle, to be read beside the kernels.

With F the features as a matrix of C channels by M positions and A the target:

    G = F F^T / M        L = k ||G - A||^2        dL/dF = S F,   S = 2 k / M (D + D^T),   D = G - A

Source: Gatys, Ecker, Bethge, CVPR 2016, eq. 3 to 6, normalized by positions.
"""

import torch
from torch import Tensor


def gram(x: Tensor) -> Tensor:
    """Return G [B, C, C] of the features [B, C, H, W]."""
    F = x.flatten(2)  # [B, C, M]
    return F @ F.mT / F.shape[2]


def style_loss(x: Tensor, target: Tensor, weight: float) -> Tensor:
    """Return weight * ||G - target||^2, a scalar."""
    return style_loss_forward(x, target, weight)[0]


def style_loss_forward(x: Tensor, target: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """Return the style loss and S [B, C, C]."""
    D = gram(x) - target
    M = x.shape[2] * x.shape[3]
    return weight * D.square().sum(), 2 * weight / M * (D + D.mT)


def style_tap_backward(
    grad: Tensor | None,
    y: Tensor,
    s: Tensor,
    content: Tensor | None = None,
    content_weight: float = 0.0,
) -> Tensor:
    """Return grad + S F + 2 c (F - P) where the ReLU that made F was on, else 0.

    Args:
        grad: the gradient from above, [B, C, H, W], or None for zero.
        y: the features F, [B, C, H, W].
        s: S, [B, C, C].
        content: P, [B, C, H, W].
        content_weight: c.
    """
    total = (s @ y.flatten(2)).view_as(y)
    if grad is not None:
        total = grad + total
    if content is not None:
        total = total + 2 * content_weight * (y - content)
    return torch.where(y <= 0, 0, total)
