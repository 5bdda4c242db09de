"""The loss terms and their log in plain torch, without waiting for a device."""

import torch
from torch import Tensor


def loss_terms(losses: list[Tensor], factor: float, check: Tensor) -> tuple[Tensor, Tensor]:
    """Return values [n] and total [] of `op.loss_terms`."""
    values = torch.stack(losses)
    if factor != 1.0:
        values = values * factor
    values = values + check.sum()
    return values, values.sum()


def log_row_(log: Tensor, place: Tensor, values: Tensor, count: Tensor) -> None:
    """Write the row of `op.log_row_`."""
    row = torch.cat([values, count.to(values).reshape(1)])
    log.index_copy_(0, place, row[None])
    place.add_(1).remainder_(len(log))
