"""Gram, style loss and tap gradient on CPUs: native code for fp32's products, plain torch else.

Chunk by chunk, so that each pass finds the last one's results in the cache.
"""

from math import prod

import torch
from torch import Tensor

from stylekernels.ops.pointwise.cpu import mask_
from stylekernels.ops.style import native
from stylekernels.runtime.layout import CHUNK, accumulator, chunks, rows

FAST_BFLOAT16 = bool(torch.cpu.get_capabilities().get("avx512_bf16"))
"""Whether this CPU multiplies bf16 itself; without, widening to fp32 is 3 to 4 times faster."""

_MOST = 1 << 22  # elements of a product in bf16: sums of more of them in fp32 lose more


def gram(x: Tensor) -> Tensor:
    """Return the Gram matrices [B, C, C] of [B, C, H, W]."""
    return _products(rows(x)).div_(prod(x.shape[2:]))


def _products(x: Tensor) -> Tensor:
    """Return X^T X [B, C, C] of matrices [B, M, C], summed in fp32 (fp64 for fp64).

    A product in bf16 would round its result to bf16, and G - A near the optimum is smaller than
    that rounding. Where the processor multiplies bf16, a second product therefore gives what the
    first one's rounding lost, to some 2e-6 of G in all; elsewhere half precision is widened a chunk
    at a time, which is the slower by twice.
    """
    batch, _, channels = x.shape
    kind = accumulator(x.dtype)
    if all(map(native.supports, x)):
        return torch.stack([native.products(one) for one in x])
    total = x.new_zeros((batch, channels, channels), dtype=kind)
    if x.dtype == kind:
        add, most = _add_widened, None  # nothing to widen
    elif x.dtype == torch.bfloat16 and FAST_BFLOAT16 and not x.is_cuda:
        add, most = _add_two_products, _MOST
    else:
        add, most = _add_widened, CHUNK
    for b in range(batch):
        for run in chunks(x[b], most):
            add(total[b], x[b, run])
    return total


def _add_two_products(total: Tensor, x: Tensor) -> None:
    high = x.mT @ x
    total += high
    total += torch.addmm(high, x.mT, x, beta=-1)  # summed in fp32 before it is rounded


def _add_widened(total: Tensor, x: Tensor) -> None:
    wide = x.to(total.dtype)
    total.addmm_(wide.mT, wide)


def style_loss_forward(x: Tensor, target: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """Return the style loss of [B, C, H, W], and S [B, C, C]."""
    return loss_of_gram_(gram(x), target, weight, prod(x.shape[2:]))


def loss_of_gram_(
    gram: Tensor, target: Tensor, weight: float, positions: int
) -> tuple[Tensor, Tensor]:
    """Return the style loss of Grams [B, C, C], which are overwritten, and S [B, C, C]."""
    d = gram.sub_(target)
    # not torch.dot: without AVX-512 it adds so few sums of so many that the loss is off by 1e-5
    return d.square().sum() * weight, (d + d.mT).mul_(2.0 * weight / positions)


def write_gradient(
    x: Tensor,
    s: Tensor,
    output: Tensor,
    *,
    relu: bool,
    incoming: Tensor | None = None,
    loss_gradient: Tensor | None = None,
    content: Tensor | None = None,
    content_weight: float = 0.0,
) -> None:
    """Write `op.write_gradient`'s gradient to `output`."""
    kind = accumulator(x.dtype)
    narrow = x.dtype == torch.bfloat16 and (FAST_BFLOAT16 or x.is_cuda) and content is None
    working = x.dtype if narrow else kind
    s = s.to(kind)
    if loss_gradient is not None:
        s = s * loss_gradient
    s = s.to(working)
    x_rows, output_rows = rows(x), rows(output)  # [B, M, C]
    incoming_rows = None if incoming is None else rows(incoming)
    content_rows = None if content is None else rows(content)
    for b in range(len(x_rows)):
        for run in chunks(x_rows[b], None if working == x.dtype else CHUNK):
            source, into = x_rows[b, run], output_rows[b, run]
            wide = source.to(working)
            total = into if into.dtype == working else torch.empty_like(into, dtype=working)
            if incoming_rows is None:
                torch.mm(wide, s[b], out=total)
            else:
                torch.addmm(incoming_rows[b, run].to(working), wide, s[b], out=total)
            if content_rows is not None:
                total += 2.0 * content_weight * (wide - content_rows[b, run])
            if total is not into:
                into.copy_(total)
            if relu:
                mask_(into, source)
