"""A bound of max |S|, known before any element of S, and the power of two that fits S into fp16.

No element of a Gram exceeds the largest of its diagonal, and no maximum of a sum exceeds the sum
of maxima. `gram_fwd_kernel` therefore leaves the largest element of every partial tile on the
diagonal, and the largest |A| of a share of the target. The bound may be some 2^10 above max |S|
where G is close to A: of the 2^29 that fp16's normal numbers span, enough are left.
"""

import triton
import triton.language as tl


@triton.jit
def finite(x):
    """Return |x|, and 0 where it is infinite or NaN: those need no room."""
    return tl.where(tl.abs(x) < float("inf"), tl.abs(x), 0.0)


@triton.jit
def largest(x, count, stride, BLOCK: tl.constexpr):
    """Return the largest finite |x| of `count` numbers."""
    most = tl.zeros((BLOCK,), tl.float32)
    for i in range(0, count, BLOCK):
        at = i + tl.arange(0, BLOCK)
        values = tl.load(x + at * stride, at < count, other=0.0).to(tl.float32)
        most = tl.maximum(most, finite(values))
    return tl.max(most)


@triton.jit
def total(x, count, stride, BLOCK: tl.constexpr):
    """Return the sum of `count` numbers."""
    sums = tl.zeros((BLOCK,), tl.float32)
    for i in range(0, count, BLOCK):
        at = i + tl.arange(0, BLOCK)
        sums += tl.load(x + at * stride, at < count, other=0.0)
    return tl.sum(sums)


@triton.jit
def power_of_two(bound):
    """Return the power of two that brings `bound` to between 2^14 and 2^15, and its reciprocal."""
    exponent = (bound.to(tl.int32, bitcast=True) >> 23) & 255
    biased = tl.minimum(268 - exponent, 253)
    factor = (biased << 23).to(tl.float32, bitcast=True)
    return factor, ((254 - biased) << 23).to(tl.float32, bitcast=True)
