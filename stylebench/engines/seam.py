"""Total variation across the seam of a seamless picture, whose opposite borders meet."""

from __future__ import annotations

import torch
from torch import Tensor

from stylebench.model.objective import TotalVariation


def tv_of_seam(x: Tensor, weight: float, kind: TotalVariation) -> Tensor:
    """The steps from the last row and column of x [1, 3, H, W] to the first: [], as ``tv_loss``."""
    steps = torch.cat([_step(x, dim).flatten() for dim in (2, 3)])
    return weight * (steps.abs() if kind == "l1" else steps.square()).sum()


def add_gradient_of_seam_(
    gradient: Tensor, x: Tensor, weight: float, kind: TotalVariation
) -> Tensor:
    """Add the gradient of ``tv_of_seam`` to ``gradient`` [1, 3, H, W] in place."""
    for dim in (2, 3):
        step = _step(x, dim)
        slope = weight * (step.sign() if kind == "l1" else 2 * step)
        gradient.narrow(dim, 0, 1).add_(slope)
        gradient.narrow(dim, -1, 1).sub_(slope)
    return gradient


def _step(x: Tensor, dim: int) -> Tensor:
    return x.narrow(dim, 0, 1) - x.narrow(dim, -1, 1)
