"""The recursion of L-BFGS between its two passes, as one block of a Triton kernel in fp64.

`cpu.recursion` computes the same; `LBFGSState` gives the shapes.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from stylekernels.ops.lbfgs.state import (
    ACTION,
    AGE,
    BEST_LOSS,
    COSINE,
    COUNT,
    CURVATURE,
    FIRST,
    FULL_LR,
    FULL_REACH,
    GAMMA,
    HEAD,
    LAST_LOSS,
    LEAP,
    LR,
    REACH,
    REACH_FALLS,
    REACH_GROWS,
    REGAIN,
    ROLL_BACK,
    ROLLBACKS,
    STEP,
    STEP_AND_SAVE,
    TINY,
)
from stylekernels.runtime.config import gpu_of
from stylekernels.runtime.launch import Launch

# A kernel may use only those globals that are marked as constants.
HEAD = tl.constexpr(HEAD)
COUNT = tl.constexpr(COUNT)
AGE = tl.constexpr(AGE)
ROLLBACKS = tl.constexpr(ROLLBACKS)
ACTION = tl.constexpr(ACTION)
STEP = tl.constexpr(STEP)
STEP_AND_SAVE = tl.constexpr(STEP_AND_SAVE)
ROLL_BACK = tl.constexpr(ROLL_BACK)
GAMMA = tl.constexpr(GAMMA)
BEST_LOSS = tl.constexpr(BEST_LOSS)
LR = tl.constexpr(LR)
FULL_LR = tl.constexpr(FULL_LR)
REGAIN = tl.constexpr(REGAIN)
FIRST = tl.constexpr(FIRST)
REACH = tl.constexpr(REACH)
FULL_REACH = tl.constexpr(FULL_REACH)
LAST_LOSS = tl.constexpr(LAST_LOSS)
REACH_GROWS = tl.constexpr(REACH_GROWS)
REACH_FALLS = tl.constexpr(REACH_FALLS)
CURVATURE = tl.constexpr(CURVATURE)
COSINE = tl.constexpr(COSINE)
LEAP = tl.constexpr(LEAP)
TINY = tl.constexpr(TINY)
INF = tl.constexpr(float("inf"))


@triton.jit
def lbfgs_recursion_kernel(
    partials,  # [splits, 2 slots + 2, 2]; the sums are left in its first split
    loss,  # []
    gram,  # [2, slots, slots]
    ring,  # [5]
    scalars,  # [9]
    coefficients,  # [2 slots + 1]
    splits,
    slots,
    SLOTS: tl.constexpr,  # slots rounded up to a power of two
    TILE: tl.constexpr,  # rows of a matrix at a time, divides SLOTS
    SPLITS: tl.constexpr,  # splits at a time
    WIDTH: tl.constexpr,  # 4 slots + 4, the numbers of a split, rounded up to a power of two
):
    """One block. Between the passes over the matrices, vectors travel through memory."""
    j = tl.arange(0, SLOTS)
    p = tl.arange(0, SPLITS)
    number = tl.arange(0, WIDTH)
    width = 4 * slots + 4
    # Threads add up numbers of their own; what they exchange, they exchange once.
    sums = tl.zeros([SPLITS, WIDTH], tl.float64)
    for start in range(0, splits, SPLITS):
        at = partials + ((start + p) * width)[:, None] + number[None, :]
        mask = ((start + p) < splits)[:, None] & (number < width)[None, :]
        sums += tl.load(at, mask=mask, other=0.0)
    total = tl.sum(sums, axis=0)
    tl.debug_barrier()
    tl.store(partials + number, total, mask=number < width)
    tl.debug_barrier()
    sg = tl.load(partials + 4 * j, mask=j < slots, other=0.0)
    sy = tl.load(partials + 4 * j + 1, mask=j < slots, other=0.0)
    yy = tl.load(partials + 4 * j + 3, mask=j < slots, other=0.0)
    gg = tl.load(partials + 4 * slots)
    norm1 = tl.load(partials + 4 * slots + 1)
    ss = tl.load(partials + 4 * slots + 2)

    head = tl.load(ring + HEAD)
    count = tl.load(ring + COUNT)
    age = tl.load(ring + AGE)
    rollbacks = tl.load(ring + ROLLBACKS)
    gamma = tl.load(scalars + GAMMA)
    best_loss = tl.load(scalars + BEST_LOSS)
    lr = tl.load(scalars + LR)
    full_lr = tl.load(scalars + FULL_LR)
    first = tl.load(scalars + FIRST)
    reach = tl.load(scalars + REACH)
    full_reach = tl.load(scalars + FULL_REACH)
    last_loss = tl.load(scalars + LAST_LOSS)
    f = tl.load(loss).to(tl.float64)
    # All threads have read what one of them is going to replace.
    tl.debug_barrier()

    # Comparisons with NaN are false, so these are tests for finite numbers. (By way of an integer:
    # the interpreter forgets that a comparison of floats is a truth value.)
    ys = tl.sum(tl.where(j == head, sy, 0.0), axis=0)
    finite = (tl.abs(gg) < INF) & (tl.abs(ys) < INF) & (tl.abs(f) < INF)
    safe = tl.where(first > 0.0, 1, 0) != 0
    leaps = tl.where(f > tl.abs(best_loss) * LEAP, 1, 0) != 0
    good = (tl.where(finite, 1, 0) != 0) & ~(safe & leaps)
    improved = good & (f <= best_loss)
    y_norm2 = tl.sum(tl.where(j == head, yy, 0.0), axis=0)
    least = tl.where(safe, tl.sqrt(ss * y_norm2) * COSINE, CURVATURE)
    kept = (age > 0) & good & (ys > least)
    next_head = tl.where(kept, (head + 1) % slots, head)
    new_j = (j == head) & kept
    gone_j = (j == next_head) & kept
    grown = tl.where(f > last_loss, reach * REACH_FALLS, reach * REACH_GROWS)
    grown = tl.maximum(tl.minimum(grown, full_reach), 1.0)
    reach = tl.where(kept, grown, tl.where(good, reach, 1.0))
    gamma = tl.where(kept, reach * ys / y_norm2, gamma)
    gamma = tl.where(good, gamma, 1.0)

    for start in range(0, SLOTS, TILE):
        i = start + tl.arange(0, TILE)
        at = gram + i[:, None] * slots + j[None, :]
        inside = (i < slots)[:, None] & (j < slots)[None, :]
        inverse = tl.load(at, mask=inside, other=0.0)
        column = tl.where(i == head, 1.0, -tl.sum(inverse * sy[None, :], axis=1)) / ys
        inverse = tl.where(new_j[None, :], column[:, None], inverse)
        gone_i = ((i == next_head) & kept) | (good == 0)
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
        gone_i = ((i == next_head) & kept) | (good == 0)
        y_gram = tl.where(gone_i[:, None] | gone_j[None, :], 0.0, y_gram)
        tl.store(at, y_gram, mask=inside)
        w = gamma * (yg_i + tl.sum(y_gram * alpha[None, :], axis=1))
        w += tl.load(coefficients + 2 * i, mask=i < slots, other=0.0)
        tl.store(coefficients + 2 * i, w, mask=i < slots)
    tl.debug_barrier()

    # As above: a sum of the threads' own numbers, which they exchange once.
    products = tl.zeros([TILE, SLOTS], tl.float64)
    for start in range(0, SLOTS, TILE):
        i = start + tl.arange(0, TILE)
        at = gram + i[:, None] * slots + j[None, :]
        inside = (i < slots)[:, None] & (j < slots)[None, :]
        w = tl.load(coefficients + 2 * i, mask=i < slots, other=0.0)
        products += tl.load(at, mask=inside, other=0.0) * w[:, None]
    c = tl.sum(products, axis=0)
    tl.debug_barrier()

    lr = tl.where(good, lr, 0.5 * lr)
    count = tl.minimum(count + kept.to(tl.int64), slots - 1)
    scaled = (age == 0) | (safe & (count == 0))
    length = tl.where(
        safe, first / tl.where(norm1 > TINY, norm1, TINY), tl.minimum(1.0 / norm1, 1.0)
    )
    t = tl.where(scaled, lr * length, lr)
    tl.store(coefficients + 2 * j, t * c, mask=j < slots)
    tl.store(coefficients + 2 * j + 1, -t * gamma * alpha, mask=j < slots)
    tl.store(coefficients + 2 * slots, -t * gamma)
    tl.store(scalars + GAMMA, gamma)
    tl.store(scalars + REACH, reach)
    tl.store(scalars + LAST_LOSS, tl.where(good, f, INF))
    tl.store(scalars + BEST_LOSS, tl.where(improved, f, best_loss))
    tl.store(scalars + LR, tl.where(good, tl.minimum(lr * REGAIN, full_lr), lr))
    tl.store(ring + HEAD, tl.where(good, next_head, 0))
    tl.store(ring + COUNT, tl.where(good, count, 0))
    tl.store(ring + AGE, tl.where(good, age + 1, 0))
    tl.store(ring + ROLLBACKS, tl.where(good, rollbacks, rollbacks + 1))
    action = tl.where(improved, STEP_AND_SAVE, STEP)
    tl.store(ring + ACTION, tl.where(good, action, ROLL_BACK).to(tl.int64))


def recursion_shape(slots: int, lanes: int = 32) -> dict[str, int]:
    """Compile-time sizes of `lbfgs_recursion_kernel`: tiles that spill no registers anywhere.

    `lanes` are the threads of a warp.
    """
    size = max(16, triton.next_power_of_2(slots))
    width = triton.next_power_of_2(4 * slots + 4)
    threads = 4 * lanes if size <= 32 else 512
    # AMD keeps a mask of each element in scalar registers, which run out first.
    elements = (8 if size <= 32 else 4) if lanes == 32 else 1
    numbers = 32 if size <= 32 else 16  # of the partial sums that a thread has under way
    return {
        "SLOTS": size,
        "TILE": min(size, elements * threads // size),
        "SPLITS": min(32, numbers * threads // width),
        "WIDTH": width,
        "num_warps": threads // lanes,
    }


def recursion_launches(
    partials: Tensor,
    loss: Tensor,
    gram: Tensor,
    ring: Tensor,
    scalars: Tensor,
    coefficients: Tensor,
) -> list[Launch]:
    """Plan `cpu.recursion`."""
    slots = gram.shape[1]
    on_rocm = gram.is_cuda and torch.version.hip is not None
    amd = on_rocm or gpu_of(gram.device).arch > 900
    constants = recursion_shape(slots, lanes=64 if amd else 32)
    num_warps = constants.pop("num_warps")
    launch = Launch(
        lbfgs_recursion_kernel,
        (1,),
        {
            "partials": partials,
            "loss": loss,
            "gram": gram,
            "ring": ring,
            "scalars": scalars,
            "coefficients": coefficients,
            "splits": partials.shape[0],
            "slots": slots,
        },
        constants,
        num_warps,
    )
    return [launch]
