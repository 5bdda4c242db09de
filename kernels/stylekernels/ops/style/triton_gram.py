"""Gram kernel: partial products over runs of positions.

X is [M, C] with C of 64 to 512 and M up to millions: a tiny output under a huge inner dimension.
The positions are split over programs; each writes its partial tile to an fp32 workspace, and
`gram_finish_kernel` adds the partials of an element in the same order every time. Of a symmetric
output only the tiles on and above the diagonal are computed.
"""

import triton
import triton.language as tl

from stylekernels.ops.style.triton_scale import finite, largest


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
def transposed_offsets(positions, channels, stride, CHANNELS_LAST: tl.constexpr):
    """Offsets of a [BC, BM] block: those of `offsets`, transposed."""
    if CHANNELS_LAST:
        return channels[:, None] + positions[None, :].to(tl.int64) * stride
    return channels[:, None].to(tl.int64) * stride + positions[None, :]


@triton.jit
def gram_fwd_kernel(
    x,
    workspace,  # [programs, BC, BC]
    ticket,  # [1]
    target,
    bounds,  # [programs, 2]
    C,
    M,
    splits,
    span,
    stride,
    batch_stride,
    target_stride,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    ONE_LOAD: tl.constexpr,
    BOUND: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Write one tile of X^T X over one run of `span` positions to `workspace[program]`.

    With BOUND, also the largest element of a tile on the diagonal, and of a share of the target.
    """
    program = tl.program_id(0)
    if program == 0:
        tl.store(ticket, 0)  # the finishing kernel counts arrivals here
    side = tl.cdiv(C, BLOCK_C)
    tiles = side * (side + 1) // 2
    row, column = upper_tile(program % tiles, side)
    split = (program // tiles) % splits
    batch = (program // (tiles * splits)).to(tl.int64)
    x += batch * batch_stride
    if BOUND:
        share = tl.cdiv(C * C, tiles * splits)
        first = program % (tiles * splits) * share
        target += batch * target_stride + first
        most = largest(target, tl.minimum(share, C * C - first), 1, 512)
        tl.store(bounds + 2 * program + 1, most)

    left = row * BLOCK_C + tl.arange(0, BLOCK_C)
    right = column * BLOCK_C + tl.arange(0, BLOCK_C)
    total = tl.zeros((BLOCK_C, BLOCK_C), tl.float32)
    begin = split * span
    end = tl.minimum(begin + span, M)
    for m in range(begin, end, BLOCK_M):
        at = m + tl.arange(0, BLOCK_M)
        inside = (at < end)[:, None] & (right < C)[None, :]
        b = tl.load(x + offsets(at, right, stride, CHANNELS_LAST), inside, other=0.0)  # [BM, BC]
        if ONE_LOAD:
            a = tl.trans(b)
        else:
            # not the transpose of a load: where tensor cores read registers, that is not pipelined
            inside = (left < C)[:, None] & (at < end)[None, :]
            a = tl.load(
                x + transposed_offsets(at, left, stride, CHANNELS_LAST), inside, other=0.0
            )  # [BC, BM]
        total = tl.dot(a, b, total, input_precision=PRECISION)  # [BC, BC]

    tile = tl.arange(0, BLOCK_C)
    to = program.to(tl.int64) * BLOCK_C * BLOCK_C + tile[:, None] * BLOCK_C + tile[None, :]
    tl.store(workspace + to, total)

    if BOUND:
        tl.store(bounds + 2 * program, tl.where(row == column, tl.max(finite(total)), 0.0))
