"""The operators at the end of an iteration: its loss terms, and a row of the log of them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from stylekernels.ops.losses import cpu
from stylekernels.runtime.dispatch import uses_triton
from stylekernels.runtime.operators import fake_nothing, operator


def loss_terms(losses: Sequence[Tensor], factor: float, check: Tensor) -> tuple[Tensor, Tensor]:
    """Return factor * losses as one vector, and its sum, in one kernel.

    Not differentiable.

    Args:
        losses: scalars of one dtype, fp32 (fp64 through plain torch), at least one.
        factor: a number.
        check: [n], from `network_input`; its sum, 0 or NaN, is added to every term.

    Returns:
        The terms [len(losses)] and their total [].

    Raises:
        ValueError: there are no losses, or one is no scalar.
    """
    if not losses:
        raise ValueError("losses must be one scalar or more, got none")
    for loss in losses:
        if loss.dim():
            raise ValueError(f"losses must be scalars, got one of shape {tuple(loss.shape)}")
    values, total = loss_terms_operator(list(losses), factor, check)
    return values, total


@operator("loss_terms")
def loss_terms_operator(
    losses: list[Tensor], factor: float, check: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute `loss_terms`, on whichever implementation fits the operands."""
    if not uses_triton(*losses, check):
        return cpu.loss_terms(losses, factor, check)
    from stylekernels.ops.losses.triton_losses import terms_launches
    from stylekernels.runtime.launch import run_all

    values, total = loss_terms_fake(losses, factor, check)
    run_all(terms_launches(losses, factor, check.contiguous(), values, total))
    return values, total


@loss_terms_operator.register_fake
def loss_terms_fake(losses: list[Tensor], factor: float, check: Tensor) -> tuple[Tensor, Tensor]:
    """Allocate the results of `loss_terms`."""
    del factor, check
    return losses[0].new_empty(len(losses)), losses[0].new_empty(())


def log_row_(log: Tensor, place: Tensor, values: Tensor, count: Tensor) -> None:
    """Write a row to a log that goes round, and move on to the next, in one kernel.

    Args:
        log: [rows, n + 1], contiguous, fp32 (fp64 through plain torch).
        place: [1], int64: the row to write, below `rows`.
        values: [n], of the dtype of `log`.
        count: one number of any dtype, which becomes the last of the row.

    Raises:
        ValueError: the shapes or dtypes do not belong together.
    """
    if log.dim() != 2 or values.shape != (log.shape[1] - 1,) or values.dtype != log.dtype:
        raise ValueError(
            f"a log of {tuple(log.shape)} {log.dtype} takes rows of one value less than its "
            f"columns, got {tuple(values.shape)} {values.dtype}"
        )
    if place.shape != (1,) or place.dtype != torch.int64 or count.numel() != 1:
        raise ValueError(
            f"place must be [1] torch.int64 and count one number, got {tuple(place.shape)} "
            f"{place.dtype} and {tuple(count.shape)}"
        )
    log_row_operator(log, place, values, count)


@operator("log_row_", mutates=("log", "place"))
def log_row_operator(log: Tensor, place: Tensor, values: Tensor, count: Tensor) -> None:
    """Compute `log_row_`, on whichever implementation fits the operands."""
    if not (uses_triton(log, values) and log.is_contiguous()):
        cpu.log_row_(log, place, values, count)
        return
    from stylekernels.ops.losses.triton_losses import log_launches
    from stylekernels.runtime.launch import run_all

    run_all(log_launches(log, place, values.contiguous(), count))


log_row_operator.register_fake(fake_nothing)
