"""Kernels of a tap's gradient: (g + v (X (scale s)^T + 2c (v X - P))) masked by the ReLU.

Both read row n of s for column n of the product: its fast axis is then the inner one, which TF32
tensor cores need.
"""

import triton
import triton.language as tl

from stylekernels.ops.style.triton_gram import offsets


@triton.jit
def _load(x, at, channels, C, M, stride, CHANNELS_LAST: tl.constexpr):
    """Load a block of [M, C]."""
    inside = (at < M)[:, None] & (channels < C)[None, :]
    return tl.load(x + offsets(at, channels, stride, CHANNELS_LAST), inside, other=0.0)


@triton.jit
def load_s(s, inner, n, C):
    """Load s^T [BK, BN]."""
    inside = (inner < C)[:, None] & (n < C)[None, :]
    return tl.load(s + inner[:, None] + n[None, :] * C, inside, other=0.0)


@triton.jit
def tap_factors(
    scale,
    loss_gradient,
    channel_scale,
    n,
    C,
    SCALED: tl.constexpr,
    LOSS_GRADIENT: tl.constexpr,
    CHANNEL_SCALE: tl.constexpr,
):
    """Return the factor of the product, and v [1, BN] of the channels `n`, or 1."""
    factor = 1.0
    v = 1.0
    if SCALED:
        factor *= tl.load(scale)
    if LOSS_GRADIENT:
        factor *= tl.load(loss_gradient).to(tl.float32)
    if CHANNEL_SCALE:
        v = tl.load(channel_scale + n, n < C, other=0.0).to(tl.float32)[None, :]
    return factor, v


@triton.jit
def tap_gradient(
    product,  # X s^T [BM, BN]
    own,  # X
    g,
    p,
    factor,
    v,
    content_factor,
    INCOMING: tl.constexpr,
    CONTENT: tl.constexpr,
    RELU: tl.constexpr,
):
    """Return the gradient [BM, BN] of a block, from all its parts."""
    total = product * factor
    if CONTENT:
        total += content_factor * (own.to(tl.float32) * v - p.to(tl.float32))
    total *= v
    if INCOMING:
        total += g.to(tl.float32)
    if RELU:
        total = tl.where(own <= 0, 0.0, total)
    return total


@triton.jit
def tap_bwd_kernel(
    x,
    s,  # [batch, C, C]
    scale,  # [batch]
    incoming,
    content,
    output,
    loss_gradient,
    channel_scale,  # [C]
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
    SCALED: tl.constexpr,
    INCOMING: tl.constexpr,
    CONTENT: tl.constexpr,
    LOSS_GRADIENT: tl.constexpr,
    CHANNEL_SCALE: tl.constexpr,
    RELU: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Write a [BLOCK_M, BLOCK_N] block of the gradient; `output` may be `incoming`."""
    program = tl.program_id(0)
    column_blocks = tl.cdiv(C, BLOCK_N)
    row_blocks = tl.cdiv(M, BLOCK_M)
    batch = (program // (column_blocks * row_blocks)).to(tl.int64)
    x += batch * batch_stride
    s += batch * s_batch_stride

    at = (program // column_blocks) % row_blocks * BLOCK_M + tl.arange(0, BLOCK_M)
    n = (program % column_blocks) * BLOCK_N + tl.arange(0, BLOCK_N)
    # on its way while the product is computed
    own = _load(x, at, n, C, M, stride, CHANNELS_LAST)
    g = own
    p = own
    incoming += batch * g_batch_stride
    if INCOMING and CHANNELS_LAST:
        g = _load(incoming, at, n, C, M, g_stride, CHANNELS_LAST)
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for k in range(0, C, BLOCK_K):
        inner = k + tl.arange(0, BLOCK_K)
        a = _load(x, at, inner, C, M, stride, CHANNELS_LAST)  # [BM, BK]
        total = tl.dot(a, load_s(s, inner, n, C), total, input_precision=PRECISION)
    if INCOMING and not CHANNELS_LAST:  # whose addresses leave it no registers during the product
        g = _load(incoming, at, n, C, M, g_stride, CHANNELS_LAST)
    if CONTENT:
        content += batch * p_batch_stride
        p = _load(content, at, n, C, M, p_stride, CHANNELS_LAST)

    factor, v = tap_factors(
        scale + batch, loss_gradient, channel_scale, n, C, SCALED, LOSS_GRADIENT, CHANNEL_SCALE
    )
    total = tap_gradient(total, own, g, p, factor, v, content_factor, INCOMING, CONTENT, RELU)
    output += batch * o_batch_stride
    inside = (at < M)[:, None] & (n < C)[None, :]
    o_at = offsets(at, n, o_stride, CHANNELS_LAST)
    tl.store(output + o_at, total.to(output.dtype.element_ty), inside)


@triton.jit
def tap_bwd_resident_kernel(
    x,
    s,  # [batch, C, C]
    scale,  # [batch]
    incoming,
    content,
    output,
    loss_gradient,
    channel_scale,  # [C]
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
    programs,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    SCALED: tl.constexpr,
    INCOMING: tl.constexpr,
    CONTENT: tl.constexpr,
    LOSS_GRADIENT: tl.constexpr,
    CHANNEL_SCALE: tl.constexpr,
    RELU: tl.constexpr,
    PRECISION: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Write every `programs`-th block of some columns, whose part of s stays on the chip.

    BLOCK_K holds all channels. The next blocks of x and `incoming` arrive while one is computed.
    """
    program = tl.program_id(0)
    column_blocks = tl.cdiv(C, BLOCK_N)
    batch = (program // (column_blocks * programs)).to(tl.int64)
    x += batch * batch_stride
    s += batch * s_batch_stride
    incoming += batch * g_batch_stride
    content += batch * p_batch_stride
    output += batch * o_batch_stride

    n = (program % column_blocks) * BLOCK_N + tl.arange(0, BLOCK_N)
    inner = tl.arange(0, BLOCK_K)
    b = load_s(s, inner, n, C)
    factor, v = tap_factors(
        scale + batch, loss_gradient, channel_scale, n, C, SCALED, LOSS_GRADIENT, CHANNEL_SCALE
    )
    first = (program // column_blocks) % programs
    # named here, the stages hold for loads that no product reads too
    for block in tl.range(first, tl.cdiv(M, BLOCK_M), programs, num_stages=STAGES):
        at = block * BLOCK_M + tl.arange(0, BLOCK_M)
        a = _load(x, at, inner, C, M, stride, CHANNELS_LAST)
        own = a
        if BLOCK_N != BLOCK_K:
            own = _load(x, at, n, C, M, stride, CHANNELS_LAST)
        g = own
        p = own
        if INCOMING:
            g = _load(incoming, at, n, C, M, g_stride, CHANNELS_LAST)
        if CONTENT:
            p = _load(content, at, n, C, M, p_stride, CHANNELS_LAST)
        total = tl.dot(a, b, input_precision=PRECISION)
        total = tap_gradient(total, own, g, p, factor, v, content_factor, INCOMING, CONTENT, RELU)
        inside = (at < M)[:, None] & (n < C)[None, :]
        o_at = offsets(at, n, o_stride, CHANNELS_LAST)
        tl.store(output + o_at, total.to(output.dtype.element_ty), inside)
