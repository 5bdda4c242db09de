"""Total variation in plain torch: the oracle, to be read beside the kernels."""

from torch import Tensor


def tv_loss(x: Tensor, weight: float, kind: str = "l1") -> Tensor:
    """Return weight times the sum of |dx| + |dy| (l1) or dx^2 + dy^2 (l2), of [B, C, H, W]."""
    dx = x[..., 1:] - x[..., :-1]
    dy = x[..., 1:, :] - x[..., :-1, :]
    if kind == "l1":
        return weight * (dx.abs().sum() + dy.abs().sum())
    return weight * (dx.square().sum() + dy.square().sum())
