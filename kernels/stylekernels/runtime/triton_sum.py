"""Sums of partial results in one fixed order, and the kernel that finishes a scalar loss."""

import triton
import triton.language as tl
from torch import Tensor

from stylekernels.runtime.launch import Launch


@triton.jit
def ordered_total(partials, begin, end, BLOCK: tl.constexpr):
    """Add partials[begin:end] in an order that depends on nothing but their number."""
    total = tl.zeros((BLOCK,), tl.float32)
    for i in range(begin, end, BLOCK):
        at = i + tl.arange(0, BLOCK)
        # may be written by other programs of this very launch: not from a stale L1 line
        total += tl.load(partials + at, at < end, other=0.0, cache_modifier=".cg")
    return tl.sum(total)


@triton.jit
def total_fwd_kernel(partials, output, count, weight, BLOCK: tl.constexpr):
    """Write weight * the sum of the partials, in one program."""
    total = ordered_total(partials, 0, count, BLOCK)
    tl.store(output, total * weight)


def total_launch(partials: Tensor, output: Tensor, weight: float) -> Launch:
    """Plan output = weight * partials.sum()."""
    arguments = {
        "partials": partials,
        "output": output,
        "count": partials.numel(),
        "weight": weight,
    }
    return Launch(total_fwd_kernel, (1,), arguments, {"BLOCK": 1024}, 4, 2)
