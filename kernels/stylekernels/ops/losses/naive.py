"""The loss terms and their log in plain torch: the oracle, to be read beside the kernels."""

from collections.abc import Sequence

import torch
from torch import Tensor


def loss_terms(losses: Sequence[Tensor], factor: float, check: Tensor) -> tuple[Tensor, Tensor]:
    """Return factor * losses + the sum of `check`, [n], and the sum of that, a scalar."""
    values = factor * torch.stack(list(losses)) + check.sum()
    return values, values.sum()


def log_row_(log: Tensor, place: Tensor, values: Tensor, count: Tensor) -> None:
    """Write values and count to row `place` of the log, which goes round, and move on."""
    log[int(place)] = torch.cat([values, count.to(values).reshape(1)])
    place.copy_((place + 1) % len(log))
