"""The gradient of every Gram term: (g + X S + 2c (X - P)) masked by the ReLU, in one kernel."""

from math import ceil
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from stylekernels.ops.style.triton_gram import offsets
from stylekernels.ops.style.triton_launches import precision
from stylekernels.runtime.config import BackwardConfig, gpu_of, select
from stylekernels.runtime.launch import Launch, run_all
from stylekernels.runtime.layout import matrix


@triton.jit
def tap_bwd_kernel(
    x,
    s,  # [batch, C, C]
    incoming,
    content,
    output,
    loss_gradient,
    C,
    M,
    stride,
    batch_stride,
    s_batch_stride,
    g_stride,
    g_batch_stride,
    p_stride,
    p_batch_stride,
    o_stride,
    o_batch_stride,
    content_factor,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    INCOMING: tl.constexpr,
    CONTENT: tl.constexpr,
    LOSS_GRADIENT: tl.constexpr,
    RELU: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Write a [BLOCK_M, BLOCK_N] block of the gradient; `output` may be `incoming`.

    S is symmetric, so S[n, k] is read for S[k, n]: its fast axis is then the inner one, which
    TF32 tensor cores need. WIDE multiplies in fp32 for fp16 operands, whose range S may leave.
    """
    program = tl.program_id(0)
    column_blocks = tl.cdiv(C, BLOCK_N)
    row_blocks = tl.cdiv(M, BLOCK_M)
    batch = (program // (column_blocks * row_blocks)).to(tl.int64)
    x += batch * batch_stride
    s += batch * s_batch_stride

    at = (program // column_blocks) % row_blocks * BLOCK_M + tl.arange(0, BLOCK_M)
    n = (program % column_blocks) * BLOCK_N + tl.arange(0, BLOCK_N)
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for k in range(0, C, BLOCK_K):
        inner = k + tl.arange(0, BLOCK_K)
        a = tl.load(
            x + offsets(at, inner, stride, CHANNELS_LAST),
            (at < M)[:, None] & (inner < C)[None, :],
            other=0.0,
        )  # [BM, BK]
        b = tl.load(
            s + inner[:, None] + n[None, :] * C,
            (inner < C)[:, None] & (n < C)[None, :],
            other=0.0,
        )  # [BK, BN]
        if WIDE:
            a = a.to(tl.float32)
        else:
            b = b.to(a.dtype)
        total = tl.dot(a, b, total, input_precision=PRECISION)

    inside = (at < M)[:, None] & (n < C)[None, :]
    own = tl.load(x + offsets(at, n, stride, CHANNELS_LAST), inside, other=0.0)
    own = own.to(tl.float32)  # [BM, BN]
    if LOSS_GRADIENT:
        total *= tl.load(loss_gradient).to(tl.float32)
    if CONTENT:
        content += batch * p_batch_stride
        p = tl.load(content + offsets(at, n, p_stride, CHANNELS_LAST), inside, other=0.0)
        total += content_factor * (own - p.to(tl.float32))
    if INCOMING:
        incoming += batch * g_batch_stride
        g = tl.load(incoming + offsets(at, n, g_stride, CHANNELS_LAST), inside, other=0.0)
        total += g.to(tl.float32)
    if RELU:
        total = tl.where(own <= 0, 0.0, total)
    output += batch * o_batch_stride
    o_at = offsets(at, n, o_stride, CHANNELS_LAST)
    tl.store(output + o_at, total.to(output.dtype.element_ty), inside)


def backward_launches(
    x: Tensor,
    s: Tensor,
    output: Tensor,
    *,
    relu: bool,
    incoming: Tensor | None = None,
    loss_gradient: Tensor | None = None,
    content: Tensor | None = None,
    content_weight: float = 0.0,
    config: BackwardConfig | None = None,
) -> list[Launch]:
    """Plan the launch of `op.write_gradient`.

    Args:
        x: the activation, [B, C, H, W].
        s: [B, C, C] fp32, symmetric.
        output: dense, shaped as `x`; may be `incoming` itself.
        relu: zero the gradient where x <= 0.
        incoming: the gradient from above.
        loss_gradient: a scalar that the style gradient is multiplied by.
        content: the content target.
        content_weight: c.
        config: the blocks, if not the selected ones.

    Raises:
        ValueError: `output` cannot be written in place.
    """
    o = matrix(output)
    if o.tensor is not output:
        shape = tuple(output.shape)
        raise ValueError(f"cannot write {shape} with strides {output.stride()} in place")
    source = matrix(x, o.channels_last)
    g = source if incoming is None else matrix(incoming, o.channels_last)
    p = source if content is None else matrix(content, o.channels_last)
    batch, C, height, width = x.shape
    M = height * width
    blocks = config or select(BackwardConfig, x.dtype, C, M, gpu_of(x.device))
    wide = x.dtype == torch.float16
    launch = Launch(
        tap_bwd_kernel,
        (batch * ceil(C / blocks.block_n) * ceil(M / blocks.block_m),),
        {
            "x": source.tensor,
            "s": s,
            "incoming": g.tensor,
            "content": p.tensor,
            "output": output,
            "loss_gradient": s if loss_gradient is None else loss_gradient,
            "C": C,
            "M": M,
            "stride": source.stride,
            "batch_stride": source.batch_stride,
            "s_batch_stride": s.stride(0),
            "g_stride": g.stride,
            "g_batch_stride": g.batch_stride,
            "p_stride": p.stride,
            "p_batch_stride": p.batch_stride,
            "o_stride": o.stride,
            "o_batch_stride": o.batch_stride,
            "content_factor": 2.0 * content_weight,
        },
        {
            "BLOCK_M": blocks.block_m,
            "BLOCK_N": blocks.block_n,
            "BLOCK_K": blocks.block_k,
            "CHANNELS_LAST": o.channels_last,
            "INCOMING": incoming is not None,
            "CONTENT": content is not None,
            "LOSS_GRADIENT": loss_gradient is not None,
            "RELU": relu,
            "WIDE": wide,
            "PRECISION": "tf32" if wide else precision(x.dtype),
        },
        blocks.num_warps,
        blocks.num_stages,
    )
    return [launch]


def run_backward(x: Tensor, s: Tensor, output: Tensor, **terms: Any) -> None:
    """Run `backward_launches`."""
    run_all(backward_launches(x, s, output, **terms))
