"""The backward of every Gram term: (g + X S + 2c (X - P)) masked by the ReLU, in one kernel."""

import triton
import triton.language as tl

from stylekernels.device.gram import offsets, pick


@triton.jit
def tap_bwd_kernel(
    xs,
    gradients,
    incoming,
    contents,
    outputs,
    loss_gradients,
    first,
    channels,
    positions,
    strides,
    batch_strides,
    s_batch_strides,
    g_strides,
    g_batch_strides,
    p_strides,
    p_batch_strides,
    o_strides,
    o_batch_strides,
    content_factors,
    LAYERS: tl.constexpr,
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
    """Write a [BLOCK_M, BLOCK_N] block of the gradient; `outputs` may be `incoming`.

    S is symmetric, so S[n, k] is read for S[k, n]: its fast axis is then the inner one, which
    TF32 tensor cores need. WIDE multiplies in fp32 for fp16 operands, whose range S may leave.
    """
    program = tl.program_id(0)
    C = pick(program, first, channels, LAYERS)
    M = pick(program, first, positions, LAYERS)
    x = pick(program, first, xs, LAYERS)
    s = pick(program, first, gradients, LAYERS)
    output = pick(program, first, outputs, LAYERS)
    stride = pick(program, first, strides, LAYERS)
    local = program - pick(program, first, first, LAYERS)
    column_blocks = tl.cdiv(C, BLOCK_N)
    row_blocks = tl.cdiv(M, BLOCK_M)
    batch = (local // (column_blocks * row_blocks)).to(tl.int64)
    x += batch * pick(program, first, batch_strides, LAYERS)
    s += batch * pick(program, first, s_batch_strides, LAYERS)

    at = (local // column_blocks) % row_blocks * BLOCK_M + tl.arange(0, BLOCK_M)
    n = (local % column_blocks) * BLOCK_N + tl.arange(0, BLOCK_N)
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
        loss_gradient = pick(program, first, loss_gradients, LAYERS)
        total *= tl.load(loss_gradient).to(tl.float32)
    if CONTENT:
        p = pick(program, first, contents, LAYERS)
        p += batch * pick(program, first, p_batch_strides, LAYERS)
        p_at = offsets(at, n, pick(program, first, p_strides, LAYERS), CHANNELS_LAST)
        factor = pick(program, first, content_factors, LAYERS)
        if LOSS_GRADIENT:
            factor = factor * tl.load(loss_gradient + 1).to(tl.float32)
        total += factor * (own - tl.load(p + p_at, inside, other=0.0).to(tl.float32))
    if INCOMING:
        g = pick(program, first, incoming, LAYERS)
        g += batch * pick(program, first, g_batch_strides, LAYERS)
        g_at = offsets(at, n, pick(program, first, g_strides, LAYERS), CHANNELS_LAST)
        total += tl.load(g + g_at, inside, other=0.0).to(tl.float32)
    if RELU:
        total = tl.where(own <= 0, 0.0, total)
    output += batch * pick(program, first, o_batch_strides, LAYERS)
    o_at = offsets(at, n, pick(program, first, o_strides, LAYERS), CHANNELS_LAST)
    tl.store(output + o_at, total.to(output.dtype.element_ty), inside)
