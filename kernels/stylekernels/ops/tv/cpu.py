"""Total variation and its gradient in plain torch, with few temporaries."""

import torch
from torch import Tensor

from stylekernels.runtime.layout import accumulator


def tv_loss(x: Tensor, weight: float, squared: bool) -> Tensor:
    """Return the total variation."""
    wide = x.to(accumulator(x.dtype))
    steps = wide.diff(dim=3), wide.diff(dim=2)
    first, second = (d.square_().sum() if squared else d.abs_().sum() for d in steps)
    return (first + second) * weight


def tv_gradient(x: Tensor, weight: float, squared: bool) -> Tensor:
    """Return the gradient of `tv_loss`, in the dtype of its sums."""
    wide = x.to(accumulator(x.dtype))
    gradient = torch.zeros_like(wide)
    for dim in (2, 3):
        d = wide.diff(dim=dim)
        d = d.mul_(2.0 * weight) if squared else d.sign_().mul_(weight)
        size = x.shape[dim]
        gradient.narrow(dim, 1, size - 1).add_(d)
        gradient.narrow(dim, 0, size - 1).sub_(d)
    return gradient
