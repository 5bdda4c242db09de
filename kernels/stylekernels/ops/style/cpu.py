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


def style_loss_forward(
    x: Tensor, target: Tensor, weight: float, channel_scale: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the style loss of [B, C, H, W], S [B, C, C] in the dtype of `x`, and its scale [B]."""
    G = gram(x)
    if channel_scale is not None:
        v = channel_scale.to(G.dtype)
        G *= v[:, None] * v
    return loss_of_gram_(G, target, weight, prod(x.shape[2:]), x.dtype, channel_scale)


def loss_of_gram_(
    gram: Tensor,
    target: Tensor,
    weight: float,
    positions: float,
    dtype: torch.dtype,
    channel_scale: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return `style_loss_forward` of activations of `dtype`, from their Gram matrices [B, C, C].

    These are of the activations times `channel_scale`, over so many positions; they are consumed.
    """
    d = gram.sub_(target)
    s = (d + d.mT).mul_(2.0 * weight / positions)
    if channel_scale is not None:
        s *= channel_scale.to(s.dtype)
    # not torch.dot: without AVX-512 it adds so few sums of so many that the loss is off by 1e-5
    return d.square().sum() * weight, *narrowed(s, dtype)


def narrowed(s: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return S [B, C, C] as scale * s: s in `dtype`, and the scale [B], a power of two.

    The scale is 1 except for fp16, whose range S may leave on either side: there it brings the
    largest finite element of a picture to between 2^14 and 2^15.
    """
    kind = accumulator(dtype)
    if dtype != torch.float16:
        return s.to(dtype), s.new_ones(len(s), dtype=kind)
    s = s.to(kind)
    largest = torch.where(s.isfinite(), s.abs(), 0).amax((1, 2))
    exponent = (largest.frexp().exponent - 15).clamp(min=-126)
    scale = (exponent + 127 << 23).view(kind)  # a pow on some devices is an ulp off
    return (s / scale[:, None, None]).to(dtype), scale


def write_gradient(
    x: Tensor,
    s: Tensor,
    output: Tensor,
    *,
    relu: bool,
    scale: Tensor | None = None,
    incoming: Tensor | None = None,
    loss_gradient: Tensor | None = None,
    content: Tensor | None = None,
    content_weight: float = 0.0,
    channel_scale: Tensor | None = None,
) -> None:
    """Write `op.write_gradient`'s gradient to `output`."""
    kind = accumulator(x.dtype)
    narrow = x.dtype == torch.bfloat16 and (FAST_BFLOAT16 or x.is_cuda) and content is None
    working = x.dtype if narrow else kind
    s = s.mT.to(kind)
    for factor in (loss_gradient, channel_scale, scale if scale is None else scale[:, None, None]):
        s = s if factor is None else s * factor
    s = s.to(working)
    v = 1.0 if channel_scale is None else channel_scale.to(kind)
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
                total += 2.0 * content_weight * v * (wide * v - content_rows[b, run])
            if total is not into:
                into.copy_(total)
            if relu:
                mask_(into, source)
