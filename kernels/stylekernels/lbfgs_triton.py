# mypy: allow-untyped-defs, allow-incomplete-defs
"""The three L-BFGS operators as Triton kernels: fp32 image, history in fp32 or bf16.

Beside `lbfgs.py`, whose plain functions define what each kernel computes and whose `LBFGSState`
gives the shapes. Deterministic: every sum has one fixed order, no atomics. Whether a row is read,
a pair kept or a step undone is decided by what the kernels find in `ring`, never by the host.
"""

import triton
import triton.language as tl
from torch import Tensor

from stylekernels import lbfgs

HEAD = tl.constexpr(lbfgs.HEAD)
COUNT = tl.constexpr(lbfgs.COUNT)
AGE = tl.constexpr(lbfgs.AGE)
ROLLBACKS = tl.constexpr(lbfgs.ROLLBACKS)
ACTION = tl.constexpr(lbfgs.ACTION)
STEP = tl.constexpr(lbfgs.STEP)
STEP_AND_SAVE = tl.constexpr(lbfgs.STEP_AND_SAVE)
ROLL_BACK = tl.constexpr(lbfgs.ROLL_BACK)
GAMMA = tl.constexpr(lbfgs.GAMMA)
BEST_LOSS = tl.constexpr(lbfgs.BEST_LOSS)
LR = tl.constexpr(lbfgs.LR)
FULL_LR = tl.constexpr(lbfgs.FULL_LR)
REGAIN = tl.constexpr(lbfgs.REGAIN)
CURVATURE = tl.constexpr(lbfgs.CURVATURE)
INF = tl.constexpr(float("inf"))

ROWS = 8  # rows of the history in flight in one block
COLUMNS = 512  # divides the padding of a row, so the history is read without a mask
WARPS = 4


@triton.jit
def lbfgs_dots_kernel(
    grad,  # [n]
    previous,  # [2, stride], of which the first row
    history,  # [slots, 2, stride]
    ring,  # [5]
    partials,  # [splits, 2 slots + 1, 2]
    n,
    stride,
    slots,
    split,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Grid (groups of rows + 1, splits). The last group owns the spare slot and the norms."""
    group = tl.program_id(0)
    part = tl.program_id(1).to(tl.int64)
    head = tl.load(ring + HEAD)
    used = 2 * (tl.load(ring + COUNT) + 1)
    out = partials + part * (4 * slots + 2)
    begin = part * split
    end = tl.minimum(begin + split, stride)
    column = tl.arange(0, COLUMNS)
    dtype = history.dtype.element_ty

    if group < tl.num_programs(0) - 1:
        row = group * ROWS + tl.arange(0, ROWS)
        # The spare slot's y is being written meanwhile.
        live = (row < used) & (row // 2 != head)
        lines = history + row.to(tl.int64) * stride
        with_g = tl.zeros([ROWS, COLUMNS], tl.float32)
        with_y = tl.zeros([ROWS, COLUMNS], tl.float32)
        if group * ROWS < used:
            for start in range(begin, end, COLUMNS):
                at = start + column
                g = tl.load(grad + at, mask=at < n, other=0.0)
                y = (g - tl.load(previous + at)).to(dtype).to(tl.float32)
                h = tl.load(lines[:, None] + at[None, :], mask=live[:, None], other=0.0)
                h = h.to(tl.float32)
                with_g += h * g[None, :]
                with_y += h * y[None, :]
        mine = (row < 2 * slots) & (row // 2 != head)
        tl.store(out + 2 * row, tl.sum(with_g.to(tl.float64), axis=1), mask=mine)
        tl.store(out + 2 * row + 1, tl.sum(with_y.to(tl.float64), axis=1), mask=mine)
    else:
        s_line = history + 2 * head * stride
        sg = tl.zeros([COLUMNS], tl.float32)
        sy = tl.zeros([COLUMNS], tl.float32)
        yg = tl.zeros([COLUMNS], tl.float32)
        yy = tl.zeros([COLUMNS], tl.float32)
        gg = tl.zeros([COLUMNS], tl.float32)
        norm1 = tl.zeros([COLUMNS], tl.float32)
        for start in range(begin, end, COLUMNS):
            at = start + column
            g = tl.load(grad + at, mask=at < n, other=0.0)
            stored = (g - tl.load(previous + at)).to(dtype)
            tl.store(s_line + stride + at, stored)
            y = stored.to(tl.float32)
            s = tl.load(s_line + at).to(tl.float32)
            sg += s * g
            sy += s * y
            yg += y * g
            yy += y * y
            gg += g * g
            norm1 += tl.abs(g)
        spare = out + 4 * head
        tl.store(spare, tl.sum(sg.to(tl.float64), axis=0))
        tl.store(spare + 1, tl.sum(sy.to(tl.float64), axis=0))
        tl.store(spare + 2, tl.sum(yg.to(tl.float64), axis=0))
        tl.store(spare + 3, tl.sum(yy.to(tl.float64), axis=0))
        tl.store(out + 4 * slots, tl.sum(gg.to(tl.float64), axis=0))
        tl.store(out + 4 * slots + 1, tl.sum(norm1.to(tl.float64), axis=0))


@triton.jit
def lbfgs_recursion_kernel(
    partials,  # [splits, 2 slots + 1, 2]; the sums are left in its first split
    loss,  # []
    gram,  # [2, slots, slots]
    ring,  # [5]
    scalars,  # [4]
    coefficients,  # [2 slots + 1]
    splits,
    slots,
    SLOTS: tl.constexpr,  # slots rounded up to a power of two
    TILE: tl.constexpr,  # rows of a matrix at a time, divides SLOTS
    SPLITS: tl.constexpr,  # splits at a time
):
    """One block. Between the passes over the matrices, vectors travel through memory."""
    j = tl.arange(0, SLOTS)
    p = tl.arange(0, SPLITS)
    k = tl.arange(0, 2)
    sg = tl.zeros([SLOTS], tl.float64)
    sy = tl.zeros([SLOTS], tl.float64)
    yg = tl.zeros([SLOTS], tl.float64)
    yy = tl.zeros([SLOTS], tl.float64)
    norms = tl.zeros([2], tl.float64)
    for start in range(0, splits, SPLITS):
        line = (start + p) * (4 * slots + 2)
        at = partials + line[:, None] + 4 * j[None, :]
        mask = ((start + p) < splits)[:, None] & (j < slots)[None, :]
        sg += tl.sum(tl.load(at, mask=mask, other=0.0), axis=0)
        sy += tl.sum(tl.load(at + 1, mask=mask, other=0.0), axis=0)
        yg += tl.sum(tl.load(at + 2, mask=mask, other=0.0), axis=0)
        yy += tl.sum(tl.load(at + 3, mask=mask, other=0.0), axis=0)
        at = partials + line[:, None] + 4 * slots + k[None, :]
        norms += tl.sum(tl.load(at, mask=((start + p) < splits)[:, None], other=0.0), axis=0)
    gg = tl.sum(tl.where(k == 0, norms, 0.0), axis=0)
    norm1 = tl.sum(tl.where(k == 1, norms, 0.0), axis=0)

    head = tl.load(ring + HEAD)
    count = tl.load(ring + COUNT)
    age = tl.load(ring + AGE)
    rollbacks = tl.load(ring + ROLLBACKS)
    gamma = tl.load(scalars + GAMMA)
    best_loss = tl.load(scalars + BEST_LOSS)
    lr = tl.load(scalars + LR)
    full_lr = tl.load(scalars + FULL_LR)
    f = tl.load(loss).to(tl.float64)
    # All threads have read what one of them is going to replace.
    tl.debug_barrier()
    tl.store(partials + 4 * j + 2, yg, mask=j < slots)
    tl.store(partials + 4 * j + 3, yy, mask=j < slots)

    # Comparisons with NaN are false, so these are tests for finite numbers. (By way of an integer:
    # the interpreter forgets that a comparison of floats is a truth value.)
    ys = tl.sum(tl.where(j == head, sy, 0.0), axis=0)
    finite = (tl.abs(gg) < INF) & (tl.abs(ys) < INF) & (tl.abs(f) < INF)
    finite = tl.where(finite, 1, 0) != 0
    improved = finite & (f <= best_loss)
    y_norm2 = tl.sum(tl.where(j == head, yy, 0.0), axis=0)
    kept = (age > 0) & finite & (ys > CURVATURE)
    next_head = tl.where(kept, (head + 1) % slots, head)
    new_j = (j == head) & kept
    gone_j = (j == next_head) & kept
    gamma = tl.where(kept, ys / y_norm2, gamma)
    gamma = tl.where(finite, gamma, 1.0)

    for start in range(0, SLOTS, TILE):
        i = start + tl.arange(0, TILE)
        at = gram + i[:, None] * slots + j[None, :]
        inside = (i < slots)[:, None] & (j < slots)[None, :]
        inverse = tl.load(at, mask=inside, other=0.0)
        column = tl.where(i == head, 1.0, -tl.sum(inverse * sy[None, :], axis=1)) / ys
        inverse = tl.where(new_j[None, :], column[:, None], inverse)
        gone_i = ((i == next_head) & kept) | (finite == 0)
        inverse = tl.where(gone_i[:, None] | gone_j[None, :], 0.0, inverse)
        tl.store(at, inverse, mask=inside)
        alpha = -tl.sum(inverse * sg[None, :], axis=1)
        diagonal = tl.sum(tl.where(i[:, None] == j[None, :], inverse, 0.0), axis=1)
        d_alpha = tl.where(diagonal > 0.0, alpha / diagonal, 0.0)
        tl.store(coefficients + 2 * i, d_alpha, mask=i < slots)
        tl.store(coefficients + 2 * i + 1, alpha, mask=i < slots)
    tl.debug_barrier()

    alpha = tl.load(coefficients + 2 * j + 1, mask=j < slots, other=0.0)
    for start in range(0, SLOTS, TILE):
        i = start + tl.arange(0, TILE)
        at = gram + slots * slots + i[:, None] * slots + j[None, :]
        inside = (i < slots)[:, None] & (j < slots)[None, :]
        y_gram = tl.load(at, mask=inside, other=0.0)
        yg_i = tl.load(partials + 4 * i + 2, mask=i < slots, other=0.0)
        yy_i = tl.load(partials + 4 * i + 3, mask=i < slots, other=0.0)
        y_gram = tl.where(((i == head) & kept)[:, None], yy[None, :], y_gram)
        y_gram = tl.where(new_j[None, :], yy_i[:, None], y_gram)
        gone_i = ((i == next_head) & kept) | (finite == 0)
        y_gram = tl.where(gone_i[:, None] | gone_j[None, :], 0.0, y_gram)
        tl.store(at, y_gram, mask=inside)
        w = gamma * (yg_i + tl.sum(y_gram * alpha[None, :], axis=1))
        w += tl.load(coefficients + 2 * i, mask=i < slots, other=0.0)
        tl.store(coefficients + 2 * i, w, mask=i < slots)
    tl.debug_barrier()

    c = tl.zeros([SLOTS], tl.float64)
    for start in range(0, SLOTS, TILE):
        i = start + tl.arange(0, TILE)
        at = gram + i[:, None] * slots + j[None, :]
        inside = (i < slots)[:, None] & (j < slots)[None, :]
        w = tl.load(coefficients + 2 * i, mask=i < slots, other=0.0)
        c += tl.sum(tl.load(at, mask=inside, other=0.0) * w[:, None], axis=0)
    tl.debug_barrier()

    lr = tl.where(finite, lr, 0.5 * lr)
    t = tl.where(age > 0, lr, lr * tl.minimum(1.0 / norm1, 1.0))
    tl.store(coefficients + 2 * j, t * c, mask=j < slots)
    tl.store(coefficients + 2 * j + 1, -t * gamma * alpha, mask=j < slots)
    tl.store(coefficients + 2 * slots, -t * gamma)
    tl.store(scalars + GAMMA, gamma)
    tl.store(scalars + BEST_LOSS, tl.where(improved, f, best_loss))
    tl.store(scalars + LR, tl.where(finite, tl.minimum(REGAIN * lr, full_lr), lr))
    count = tl.minimum(count + kept.to(tl.int64), slots - 1)
    tl.store(ring + HEAD, tl.where(finite, next_head, 0))
    tl.store(ring + COUNT, tl.where(finite, count, 0))
    tl.store(ring + AGE, tl.where(finite, age + 1, 0))
    tl.store(ring + ROLLBACKS, tl.where(finite, rollbacks, rollbacks + 1))
    action = tl.where(improved, STEP_AND_SAVE, STEP)
    tl.store(ring + ACTION, tl.where(finite, action, ROLL_BACK).to(tl.int64))


@triton.jit
def lbfgs_apply_kernel(
    grad,  # [n]
    coefficients,  # [2 slots + 1]
    ring,  # [5]
    image,  # [n]
    best,  # [n]
    previous,  # [2, stride], of which the first row
    history,  # [slots, 2, stride]
    n,
    stride,
    slots,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Grid (stride / COLUMNS). Columns are visited last to first."""
    # What lbfgs_dots read last may still be in the L2 cache.
    block = (tl.num_programs(0) - 1 - tl.program_id(0)).to(tl.int64)
    at = block * COLUMNS + tl.arange(0, COLUMNS)
    inside = at < n
    head = tl.load(ring + HEAD)
    used = 2 * (tl.load(ring + COUNT) + 1)
    action = tl.load(ring + ACTION)
    g = tl.load(grad + at, mask=inside, other=0.0)
    s_line = history + 2 * head * stride
    if action == ROLL_BACK:
        # The history is empty, but the next lbfgs_dots takes products with these two.
        tl.store(image + at, tl.load(best + at, mask=inside), mask=inside)
        tl.store(s_line + at, tl.zeros([COLUMNS], history.dtype.element_ty))
        tl.store(previous + at, tl.zeros([COLUMNS], tl.float32))
    else:
        x = tl.load(image + at, mask=inside)
        if action == STEP_AND_SAVE:
            tl.store(best + at, x, mask=inside)
        total = tl.zeros([ROWS, COLUMNS], tl.float32)
        for start in range(0, used, ROWS):
            row = start + tl.arange(0, ROWS)
            c = tl.load(coefficients + row, mask=row < used, other=0.0).to(tl.float32)
            # A row without weight, the spare one among them, is not read.
            lines = history + row.to(tl.int64) * stride
            h = tl.load(lines[:, None] + at[None, :], mask=(c != 0.0)[:, None], other=0.0)
            total += c[:, None] * h.to(tl.float32)
        c = tl.load(coefficients + 2 * slots).to(tl.float32)
        step = (tl.sum(total, axis=0) + c * g).to(history.dtype.element_ty)
        tl.store(s_line + at, step)
        tl.store(image + at, x + step.to(tl.float32), mask=inside)
        tl.store(previous + at, g)


def recursion_shape(slots: int) -> dict[str, int]:
    """Compile-time sizes of `lbfgs_recursion_kernel`: tiles that spill no registers anywhere."""
    size = max(16, triton.next_power_of_2(slots))
    warps = 4 if size <= 32 else 16
    tile = min(size, 128 * warps // size)
    return {"SLOTS": size, "TILE": tile, "SPLITS": 64 * warps // size, "num_warps": warps}


def dots(grad: Tensor, previous: Tensor, history: Tensor, ring: Tensor, partials: Tensor) -> None:
    """Launch `lbfgs_dots_kernel`; as `lbfgs.dots_plain`."""
    slots, _, stride = history.shape
    splits = partials.shape[0]
    split = triton.cdiv(stride, splits * lbfgs.ROW) * lbfgs.ROW
    lbfgs_dots_kernel[(triton.cdiv(2 * slots, ROWS) + 1, splits)](
        grad,
        previous,
        history,
        ring,
        partials,
        grad.numel(),
        stride,
        slots,
        split,
        ROWS=ROWS,
        COLUMNS=COLUMNS,
        num_warps=WARPS,
        enable_fp_fusion=True,
    )


def recursion(
    partials: Tensor,
    loss: Tensor,
    gram: Tensor,
    ring: Tensor,
    scalars: Tensor,
    coefficients: Tensor,
) -> None:
    """Launch `lbfgs_recursion_kernel`; as `lbfgs.recursion_plain`."""
    slots = gram.shape[1]
    lbfgs_recursion_kernel[(1,)](
        partials,
        loss,
        gram,
        ring,
        scalars,
        coefficients,
        partials.shape[0],
        slots,
        **recursion_shape(slots),
        enable_fp_fusion=True,
    )


def apply(
    grad: Tensor,
    coefficients: Tensor,
    ring: Tensor,
    image: Tensor,
    best: Tensor,
    previous: Tensor,
    history: Tensor,
) -> None:
    """Launch `lbfgs_apply_kernel`; as `lbfgs.apply_plain`."""
    slots, _, stride = history.shape
    lbfgs_apply_kernel[(stride // COLUMNS,)](
        grad,
        coefficients,
        ring,
        image,
        best,
        previous,
        history,
        grad.numel(),
        stride,
        slots,
        ROWS=ROWS,
        COLUMNS=COLUMNS,
        num_warps=WARPS,
        enable_fp_fusion=True,
    )
