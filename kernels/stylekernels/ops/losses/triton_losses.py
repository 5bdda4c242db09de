"""The loss terms of an iteration in one vector, and a row of their log: one program each."""

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from stylekernels.runtime.launch import Launch
from stylekernels.runtime.triton_sum import ordered_total


@triton.jit
def loss_terms_kernel(
    losses,  # TERMS pointers to scalars
    check,  # [checks]
    values,  # [TERMS]
    total,  # []
    checks,
    factor,
    TERMS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the terms, and their sum in their order."""
    zero = ordered_total(check, 0, checks, BLOCK)
    sum_of_terms = zero
    for term in tl.static_range(TERMS):
        value = tl.load(losses[term]) * factor + zero
        tl.store(values + term, value)
        sum_of_terms += value
    tl.store(total, sum_of_terms)


@triton.jit
def log_row_kernel(
    log,  # [rows, TERMS + 1]
    place,  # [1]
    values,  # [TERMS]
    count,  # []
    rows,
    TERMS: tl.constexpr,
    WIDTH: tl.constexpr,  # TERMS rounded up to a power of two
):
    """Write the row at `place`, and move it."""
    row = tl.load(place)
    line = log + row * (TERMS + 1)
    term = tl.arange(0, WIDTH)
    tl.store(line + term, tl.load(values + term, term < TERMS, other=0.0), term < TERMS)
    tl.store(line + TERMS, tl.load(count).to(log.dtype.element_ty))
    tl.debug_barrier()  # all threads have read what one of them is going to replace
    tl.store(place, (row + 1) % rows)


def terms_launches(
    losses: Sequence[Tensor], factor: float, check: Tensor, values: Tensor, total: Tensor
) -> list[Launch]:
    """Plan values = factor * losses + the sum of `check`, and their total."""
    launch = Launch(
        loss_terms_kernel,
        (1,),
        {
            "check": check,
            "losses": tuple(losses),
            "values": values,
            "total": total,
            "checks": check.numel(),
            "factor": float(factor),
        },
        {"TERMS": len(losses), "BLOCK": 1024},
    )
    return [launch]


def log_launches(log: Tensor, place: Tensor, values: Tensor, count: Tensor) -> list[Launch]:
    """Plan a row of the log, and the way to the next."""
    launch = Launch(
        log_row_kernel,
        (1,),
        {"log": log, "place": place, "values": values, "count": count, "rows": len(log)},
        {"TERMS": len(values), "WIDTH": triton.next_power_of_2(len(values))},
        num_warps=1,
    )
    return [launch]
