"""Gram kernels: partial products over runs of positions, then one fixed-order sum.

X is [M, C] with C of 64 to 512 and M up to millions: a tiny output under a huge inner dimension.
The positions are split over programs; each writes its partial tile to an fp32 workspace, and a
second kernel adds the partials of an element in the same order every time. Of a symmetric output
only the tiles on and above the diagonal are computed. Several layers may share both launches:
every per-layer argument is a tuple, and a program finds its layer from its number.
"""

import triton
import triton.language as tl


@triton.jit
def pick(index, first, values, LAYERS: tl.constexpr):
    """Return the entry of `values` for the layer whose programs `index` falls among."""
    value = values[0]
    for i in tl.static_range(1, LAYERS):
        value = tl.where(index >= first[i], values[i], value)
    return value


@triton.jit
def upper_tile(index, tiles_a_side):
    """Return (row, column) of the `index`-th tile on or above the diagonal, row by row."""
    row = index * 0
    for r in range(1, tiles_a_side):
        row += (index >= r * tiles_a_side - r * (r - 1) // 2).to(tl.int32)
    return row, row + index - (row * tiles_a_side - row * (row - 1) // 2)


@triton.jit
def offsets(positions, channels, stride, CHANNELS_LAST: tl.constexpr):
    """Offsets of a [BM, BC] block; 64 bits, as M * C passes 2^31 at 5,800^2 pixels and C = 64."""
    if CHANNELS_LAST:
        return positions[:, None].to(tl.int64) * stride + channels[None, :]
    return positions[:, None] + channels[None, :].to(tl.int64) * stride


@triton.jit
def relu(x):
    """ReLU that lets NaN through, as torch's does."""
    return tl.where(x <= 0, 0.0, x).to(x.dtype)


@triton.jit
def gram_fwd_kernel(
    xs,
    ys,
    contents,
    workspace,
    content_partials,
    ticket,
    first,
    channels,
    positions,
    splits,
    spans,
    strides,
    batch_strides,
    y_strides,
    y_batch_strides,
    p_strides,
    p_batch_strides,
    LAYERS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    RELU: tl.constexpr,
    CONTENT: tl.constexpr,
    ONE_LOAD: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Write one tile of X^T X over one run of positions to `workspace[program]`.

    With RELU, X is relu(x), which the programs on the diagonal also write to `ys` (it may be `xs`:
    relu(relu(x)) = relu(x), so a reader cannot tell which it saw). With CONTENT they also leave
    the sum of (X - P)^2 over their block.
    """
    program = tl.program_id(0)
    if program == 0:
        tl.store(ticket, 0)  # the finishing kernel counts arrivals here
    start = pick(program, first, first, LAYERS)
    C = pick(program, first, channels, LAYERS)
    M = pick(program, first, positions, LAYERS)
    split_count = pick(program, first, splits, LAYERS)
    span = pick(program, first, spans, LAYERS)
    stride = pick(program, first, strides, LAYERS)
    x = pick(program, first, xs, LAYERS)

    side = tl.cdiv(C, BLOCK_C)
    tiles = side * (side + 1) // 2
    local = program - start
    row, column = upper_tile(local % tiles, side)
    split = (local // tiles) % split_count
    batch = (local // (tiles * split_count)).to(tl.int64)
    x += batch * pick(program, first, batch_strides, LAYERS)

    left = row * BLOCK_C + tl.arange(0, BLOCK_C)
    right = column * BLOCK_C + tl.arange(0, BLOCK_C)
    diagonal = (left == right)[None, :]
    total = tl.zeros((BLOCK_C, BLOCK_C), tl.float32)
    content = tl.zeros((BLOCK_C,), tl.float32)
    begin = split * span
    end = tl.minimum(begin + span, M)
    for m in range(begin, end, BLOCK_M):
        at = m + tl.arange(0, BLOCK_M)
        inside = (at < end)[:, None] & (left < C)[None, :]
        a = tl.load(x + offsets(at, left, stride, CHANNELS_LAST), inside, other=0.0)  # [BM, BC]
        if RELU:
            a = relu(a)
            y = pick(program, first, ys, LAYERS)
            y += batch * pick(program, first, y_batch_strides, LAYERS)
            to = offsets(at, left, pick(program, first, y_strides, LAYERS), CHANNELS_LAST)
            tl.store(y + to, a, inside & diagonal)
        if CONTENT:
            p = pick(program, first, contents, LAYERS)
            p += batch * pick(program, first, p_batch_strides, LAYERS)
            there = offsets(at, left, pick(program, first, p_strides, LAYERS), CHANNELS_LAST)
            d = a.to(tl.float32) - tl.load(p + there, inside & diagonal, other=0.0).to(tl.float32)
            content += tl.sum(tl.where(inside & diagonal, d * d, 0.0), axis=0)
        if ONE_LOAD:
            b = a
        else:
            inside = (at < end)[:, None] & (right < C)[None, :]
            b = tl.load(x + offsets(at, right, stride, CHANNELS_LAST), inside, other=0.0)
            if RELU:
                b = relu(b)
        total = tl.dot(tl.trans(a), b, total, input_precision=PRECISION)  # [BC, BC]

    tile = tl.arange(0, BLOCK_C)
    to = program.to(tl.int64) * BLOCK_C * BLOCK_C + tile[:, None] * BLOCK_C + tile[None, :]
    tl.store(workspace + to, total)
    if CONTENT:
        tl.store(content_partials + program, tl.sum(content))
