"""The kernel that ends a Gram: fixed-order sum, minus the target, loss, and S for the backward."""

import triton
import triton.language as tl

from stylekernels.device.gram import pick, upper_tile


@triton.jit
def ordered_total(partials, begin, end, BLOCK: tl.constexpr):
    """Add partials[begin:end] in an order that depends on nothing but their number."""
    total = tl.zeros((BLOCK,), tl.float32)
    for i in range(begin, end, BLOCK):
        at = i + tl.arange(0, BLOCK)
        # written by other programs of this very launch: not from a stale L1 line
        total += tl.load(partials + at, at < end, other=0.0, cache_modifier=".cg")
    return tl.sum(total)


@triton.jit
def gram_finish_kernel(
    workspace,
    content_partials,
    targets,
    gradients,
    losses,
    partials,
    ticket,
    first,
    first_block,
    channels,
    splits,
    batches,
    target_strides,
    mean_factors,
    style_weights,
    gradient_factors,
    content_weights,
    LAYERS: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_S: tl.constexpr,
    STYLE: tl.constexpr,
    CONTENT: tl.constexpr,
):
    """Finish BLOCK_E elements of one tile: G, or with STYLE the loss and S = (2k/M)(D + D^T).

    D = G - A, so S = (4k/M) D for a symmetric target; the sum keeps the gradient exact for any
    other. The ticket only elects the program that adds up the losses: it is the last to arrive,
    whoever that is, and adds in a fixed order, so the result is bitwise reproducible.
    """
    program = tl.program_id(0)
    start = pick(program, first_block, first, LAYERS)
    C = pick(program, first_block, channels, LAYERS)
    split_count = pick(program, first_block, splits, LAYERS)
    gradient = pick(program, first_block, gradients, LAYERS)
    side = tl.cdiv(C, BLOCK_C)
    tiles = side * (side + 1) // 2
    blocks: tl.constexpr = BLOCK_C * BLOCK_C // BLOCK_E
    local = program - pick(program, first_block, first_block, LAYERS)
    tile = (local // blocks) % tiles
    batch = local // (blocks * tiles)
    tile_row, tile_column = upper_tile(tile, side)

    element = (local % blocks) * BLOCK_E + tl.arange(0, BLOCK_E)
    base = start + batch * split_count * tiles + tile
    total = tl.zeros((BLOCK_E,), tl.float32)
    for s in range(0, split_count, BLOCK_S):
        split = s + tl.arange(0, BLOCK_S)
        at = (base + split * tiles)[:, None].to(tl.int64) * (BLOCK_C * BLOCK_C) + element[None, :]
        some = tl.load(workspace + at, (split < split_count)[:, None], other=0.0)  # [BS, BE]
        total += tl.sum(some, axis=0)

    row = tile_row * BLOCK_C + element // BLOCK_C
    column = tile_column * BLOCK_C + element % BLOCK_C
    inside = (row < C) & (column < C)
    mirrored = inside & (tile_row + 0 * element < tile_column)
    here = row * C + column
    there = column * C + row
    gradient += batch.to(tl.int64) * C * C
    gram = total * pick(program, first_block, mean_factors, LAYERS)
    if STYLE:
        target = pick(program, first_block, targets, LAYERS)
        target += batch.to(tl.int64) * pick(program, first_block, target_strides, LAYERS)
        d = gram - tl.load(target + here, inside, other=0.0).to(tl.float32)
        dt = gram - tl.load(target + there, inside, other=0.0).to(tl.float32)
        value = 0.5 * (d + dt) * pick(program, first_block, gradient_factors, LAYERS)
        loss = tl.sum(tl.where(inside, d * d, 0.0) + tl.where(mirrored, dt * dt, 0.0))
        tl.store(partials + program, loss)
    else:
        value = gram
    tl.store(gradient + here, value, inside)
    tl.store(gradient + there, value, mirrored)

    if STYLE:
        tl.debug_barrier()
        arrived = tl.atomic_add(ticket, 1, sem="acq_rel", scope="gpu")
        if arrived == tl.num_programs(0) - 1:
            for i in tl.static_range(LAYERS):
                n = tl.cdiv(channels[i], BLOCK_C)
                triangle = n * (n + 1) // 2
                end = first_block[i] + batches[i] * triangle * blocks
                loss = ordered_total(partials, first_block[i], end, 512)
                tl.store(losses + 2 * i, loss * style_weights[i])
                if CONTENT:
                    end = first[i] + batches[i] * triangle * splits[i]
                    loss = ordered_total(content_partials, first[i], end, 512)
                    tl.store(losses + 2 * i + 1, loss * content_weights[i])
                else:
                    tl.store(losses + 2 * i + 1, 0.0)
