"""The kernel that finishes a Gram: fixed-order sum, minus the target, loss, and S."""

import triton
import triton.language as tl

from stylekernels.ops.style.triton_gram import upper_tile
from stylekernels.ops.style.triton_scale import largest, power_of_two, total
from stylekernels.runtime.triton_sum import ordered_total


@triton.jit
def _fit(
    bounds,
    channel_scale,
    batch,
    programs,
    C,
    mean_factor,
    gradient_factor,
    CHANNEL_SCALE: tl.constexpr,
):
    """Return the power of two for one picture's S, and its reciprocal."""
    bounds += 2 * batch * programs
    gram = total(bounds, programs, 2, 512) * mean_factor
    target = largest(bounds + 1, programs, 2, 512)
    most = 1.0
    if CHANNEL_SCALE:
        most = largest(channel_scale, C, 1, 512)
    return power_of_two((gram * most * most + target) * most * tl.abs(gradient_factor))


@triton.jit
def gram_finish_kernel(
    workspace,  # [batch, splits, tiles, BC, BC]
    target,
    output,  # [batch, C, C]
    loss,
    scale,  # [batch]
    channel_scale,  # [C]
    bounds,  # [programs of gram_fwd_kernel, 2]
    partials,  # [programs]
    ticket,
    C,
    splits,
    target_stride,
    mean_factor,
    weight,
    gradient_factor,
    BLOCK_C: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_S: tl.constexpr,
    STYLE: tl.constexpr,
    CHANNEL_SCALE: tl.constexpr,
    FITTED: tl.constexpr,
):
    """Finish BLOCK_E elements of one tile: G, or with STYLE the loss and S = (2k/M)(D + D^T).

    D = G - A, so S = (4k/M) D for a symmetric target; the sum keeps the gradient exact for any
    other. FITTED writes S times a power of two that brings it into fp16's range.

    The ticket only elects the program that adds up the losses: it is the last to arrive, whichever
    that is, and adds in a fixed order, so the result is bitwise reproducible.
    """
    program = tl.program_id(0)
    side = tl.cdiv(C, BLOCK_C)
    tiles = side * (side + 1) // 2
    blocks: tl.constexpr = BLOCK_C * BLOCK_C // BLOCK_E
    tile = (program // blocks) % tiles
    batch = program // (blocks * tiles)
    tile_row, tile_column = upper_tile(tile, side)

    element = (program % blocks) * BLOCK_E + tl.arange(0, BLOCK_E)
    base = batch * splits * tiles + tile
    gram = tl.zeros((BLOCK_E,), tl.float32)
    for s in range(0, splits, BLOCK_S):
        split = s + tl.arange(0, BLOCK_S)
        at = (base + split * tiles)[:, None].to(tl.int64) * (BLOCK_C * BLOCK_C) + element[None, :]
        part = tl.load(workspace + at, (split < splits)[:, None], other=0.0)  # [BS, BE]
        gram += tl.sum(part, axis=0)

    row = tile_row * BLOCK_C + element // BLOCK_C
    column = tile_column * BLOCK_C + element % BLOCK_C
    inside = (row < C) & (column < C)
    mirrored = inside & (tile_row + 0 * element < tile_column)
    upper = row * C + column
    lower = column * C + row
    output += batch.to(tl.int64) * C * C
    gram *= mean_factor
    if CHANNEL_SCALE:
        row_factor = tl.load(channel_scale + row, row < C, other=0.0).to(tl.float32)
        column_factor = tl.load(channel_scale + column, column < C, other=0.0).to(tl.float32)
        gram *= row_factor * column_factor
    upper_value = gram
    lower_value = gram
    if STYLE:
        target += batch.to(tl.int64) * target_stride
        d = gram - tl.load(target + upper, inside, other=0.0).to(tl.float32)
        dt = gram - tl.load(target + lower, inside, other=0.0).to(tl.float32)
        squares = tl.where(inside, d * d, 0.0) + tl.where(mirrored, dt * dt, 0.0)
        tl.store(partials + program, tl.sum(squares))
        reciprocal = 1.0
        upper_value = 0.5 * (d + dt) * gradient_factor
        if FITTED:
            factor, reciprocal = _fit(
                bounds,
                channel_scale,
                batch,
                splits * tiles,
                C,
                mean_factor,
                gradient_factor,
                CHANNEL_SCALE,
            )
            upper_value *= factor
        lower_value = upper_value
        if CHANNEL_SCALE:
            upper_value *= column_factor
            lower_value *= row_factor
        if program % (blocks * tiles) == 0:
            tl.store(scale + batch, reciprocal)
    tl.store(output + upper, upper_value.to(output.dtype.element_ty), inside)
    tl.store(output + lower, lower_value.to(output.dtype.element_ty), mirrored)

    if STYLE:
        tl.debug_barrier()
        arrived = tl.atomic_add(ticket, 1, sem="acq_rel", scope="gpu")
        if arrived == tl.num_programs(0) - 1:
            tl.store(loss, ordered_total(partials, 0, tl.num_programs(0), 512) * weight)
