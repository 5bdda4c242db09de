"""The two passes of L-BFGS over its history as Triton kernels: fp32 image, history fp32 or bf16.

`cpu.dots` and `cpu.apply` compute the same; `LBFGSState` gives the shapes. Deterministic: every
sum has one fixed order, no atomics. `ring` on the device, never the host, decides whether a row is
read or a step undone.
"""

from math import ceil

import triton
import triton.language as tl
from torch import Tensor

from stylekernels.ops.lbfgs.state import (
    ACTION,
    COUNT,
    HEAD,
    LARGEST,
    ROLL_BACK,
    ROW,
    ROWS,
    STEP_AND_SAVE,
)
from stylekernels.runtime.launch import Launch

# A kernel may use only those globals that are marked as constants.
HEAD = tl.constexpr(HEAD)
COUNT = tl.constexpr(COUNT)
ACTION = tl.constexpr(ACTION)
LARGEST = tl.constexpr(LARGEST)
STEP_AND_SAVE = tl.constexpr(STEP_AND_SAVE)
ROLL_BACK = tl.constexpr(ROLL_BACK)

COLUMNS = 512  # divides the padding of a row, so the history is read without a mask
WARPS = 4


@triton.jit
def lbfgs_dots_kernel(
    grad,  # [n]
    scaled,  # [n]
    previous,  # [3, stride], of which the first row and the last
    history,  # [slots, 2, stride]
    ring,  # [5]
    partials,  # [splits, 2 slots + 2, 2]
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
    out = partials + part * (4 * slots + 4)
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
        written = (row < 2 * slots) & (row // 2 != head)
        tl.store(out + 2 * row, tl.sum(with_g.to(tl.float64), axis=1), mask=written)
        tl.store(out + 2 * row + 1, tl.sum(with_y.to(tl.float64), axis=1), mask=written)
    else:
        s_line = history + 2 * head * stride
        sg = tl.zeros([COLUMNS], tl.float32)
        sy = tl.zeros([COLUMNS], tl.float32)
        yg = tl.zeros([COLUMNS], tl.float32)
        yy = tl.zeros([COLUMNS], tl.float32)
        ss = tl.zeros([COLUMNS], tl.float32)
        gg = tl.zeros([COLUMNS], tl.float32)
        norm1 = tl.zeros([COLUMNS], tl.float32)
        for start in range(begin, end, COLUMNS):
            at = start + column
            g = tl.load(grad + at, mask=at < n, other=0.0)
            y = (g - tl.load(previous + at)).to(dtype).to(tl.float32)
            p = tl.load(scaled + at, mask=at < n, other=0.0)
            stored = (p - tl.load(previous + stride + stride + at)).to(dtype)
            tl.store(s_line + stride + at, stored)
            scaled_y = stored.to(tl.float32)
            s = tl.load(s_line + at).to(tl.float32)
            sg += s * g
            sy += s * y
            yg += scaled_y * g
            yy += scaled_y * y
            ss += s * s
            gg += g * g
            norm1 += tl.abs(p)
        spare = out + 4 * head
        tl.store(spare, tl.sum(sg.to(tl.float64), axis=0))
        tl.store(spare + 1, tl.sum(sy.to(tl.float64), axis=0))
        tl.store(spare + 2, tl.sum(yg.to(tl.float64), axis=0))
        tl.store(spare + 3, tl.sum(yy.to(tl.float64), axis=0))
        tl.store(out + 4 * slots, tl.sum(gg.to(tl.float64), axis=0))
        tl.store(out + 4 * slots + 1, tl.sum(norm1.to(tl.float64), axis=0))
        tl.store(out + 4 * slots + 2, tl.sum(ss.to(tl.float64), axis=0))
        tl.store(out + 4 * slots + 3, 0.0)


@triton.jit
def lbfgs_apply_kernel(
    grad,  # [n]
    scaled,  # [n]
    coefficients,  # [2 slots + 1]
    ring,  # [5]
    scalars,  # [6]
    image,  # [n]
    best,  # [n]
    previous,  # [3, stride], of which the first row and the last
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
    p = tl.load(scaled + at, mask=inside, other=0.0)
    s_line = history + 2 * head * stride
    if action == ROLL_BACK:
        # The history is empty, but the next lbfgs_dots takes products with these two.
        tl.store(image + at, tl.load(best + at, mask=inside), mask=inside)
        tl.store(s_line + at, tl.zeros([COLUMNS], history.dtype.element_ty))
        tl.store(previous + at, tl.zeros([COLUMNS], tl.float32))
        tl.store(previous + stride + stride + at, tl.zeros([COLUMNS], tl.float32))
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
        largest = tl.load(scalars + LARGEST).to(tl.float32)
        step = tl.minimum(tl.maximum(tl.sum(total, axis=0) + c * p, -largest), largest)
        step = step.to(history.dtype.element_ty)
        tl.store(s_line + at, step)
        tl.store(image + at, x + step.to(tl.float32), mask=inside)
        tl.store(previous + at, g)
        tl.store(previous + stride + stride + at, p)


def dots_launches(
    grad: Tensor,
    scaled: Tensor,
    previous: Tensor,
    history: Tensor,
    ring: Tensor,
    partials: Tensor,
) -> list[Launch]:
    """Plan `cpu.dots`."""
    slots, _, stride = history.shape
    splits = partials.shape[0]
    launch = Launch(
        lbfgs_dots_kernel,
        (ceil(2 * slots / ROWS) + 1, splits),
        {
            "grad": grad,
            "scaled": scaled,
            "previous": previous,
            "history": history,
            "ring": ring,
            "partials": partials,
            "n": grad.numel(),
            "stride": stride,
            "slots": slots,
            "split": -(-stride // (splits * ROW)) * ROW,
        },
        {"ROWS": ROWS, "COLUMNS": COLUMNS},
        WARPS,
    )
    return [launch]


def apply_launches(
    grad: Tensor,
    scaled: Tensor,
    coefficients: Tensor,
    ring: Tensor,
    scalars: Tensor,
    image: Tensor,
    best: Tensor,
    previous: Tensor,
    history: Tensor,
) -> list[Launch]:
    """Plan `cpu.apply`."""
    slots, _, stride = history.shape
    launch = Launch(
        lbfgs_apply_kernel,
        (stride // COLUMNS,),
        {
            "grad": grad,
            "scaled": scaled,
            "coefficients": coefficients,
            "ring": ring,
            "scalars": scalars,
            "image": image,
            "best": best,
            "previous": previous,
            "history": history,
            "n": grad.numel(),
            "stride": stride,
            "slots": slots,
        },
        {"ROWS": ROWS, "COLUMNS": COLUMNS},
        WARPS,
    )
    return [launch]
