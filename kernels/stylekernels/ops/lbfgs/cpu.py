"""The three steps of L-BFGS: any device, any dtype, any length of history.

On a CPU a step takes about the time that reading the history takes. See `op` for the algorithm and
`LBFGSState` for shapes.
"""

import torch
from torch import Tensor

from stylekernels.ops.lbfgs import native
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
    LARGEST,
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

_SHORT = 256  # numbers in a sum that is left to BLAS, which without AVX-512 adds one by one
_EXACT = 16384  # up to this n inner products are taken in fp64: it costs nothing
_CONVERT = 32768  # columns of a bf16 history converted at a time: 40 rows of them stay in the cache


def _rows_in_use(history: Tensor, ring: Tensor) -> Tensor:
    """The rows [2 used, stride] in use; all rows on a GPU, where the count is a host sync away."""
    used = int(ring[COUNT]) + 1 if ring.device.type == "cpu" else history.shape[0]
    return history[:used].flatten(0, 1)


def _storable(vector: Tensor, history: Tensor) -> Tensor:
    """`vector` in the history's dtype.

    Without NaN: a coefficient of zero would not silence one that stayed in an unused slot.
    """
    return torch.nan_to_num(vector.to(history.dtype), 0.0, 0.0, 0.0)


def dots(
    grad: Tensor,
    scaled: Tensor,
    previous: Tensor,
    history: Tensor,
    ring: Tensor,
    partials: Tensor,
) -> None:
    """Write the change of `scaled` to the spare slot, and all inner products with grad [n] and y.

    One read of the history; see `LBFGSState` for shapes. y, the change of the gradient, is rounded
    to the history's dtype before its products are taken, as what is stored is.
    """
    n, stride = grad.numel(), previous.shape[1]
    g, y, scaled_g = previous[:, :n].unbind()
    torch.sub(scaled, scaled_g, out=y)
    stored = _storable(y, history)
    history[:, 1, :n].index_copy_(0, ring[HEAD : HEAD + 1], stored[None])
    if scaled is not grad:
        torch.sub(grad, g, out=y)
    if stored.dtype != y.dtype:
        y.copy_(_storable(y, history))
    g.copy_(grad)
    scaled_g.copy_(scaled)
    vectors = previous[:2]

    rows = _rows_in_use(history, ring)
    partials.zero_()
    products = partials[0, : rows.shape[0]].T
    if n <= _EXACT:
        products.copy_(vectors.to(products.dtype) @ rows.to(products.dtype).T)
    elif native.supports(rows, vectors):
        products.copy_(native.products(rows, vectors).T)
    else:
        columns = stride if rows.dtype == vectors.dtype else _CONVERT
        for start in range(0, stride, columns):
            part = rows[:, start : start + columns].to(vectors.dtype)
            # Batches of short sums, added in fp64: one pass over the rows at the speed of the
            # memory, and more accurate than one long fp32 sum.
            a = vectors[:, start : start + columns].unflatten(1, (-1, _SHORT)).transpose(0, 1)
            b = part.unflatten(1, (-1, _SHORT)).permute(1, 2, 0)
            products += torch.bmm(a, b).sum(0, dtype=products.dtype)
    s = history[:, 0].index_select(0, ring[HEAD : HEAD + 1])[0].to(vectors.dtype)
    partials[0, -2, 0] = torch.dot(grad, grad)
    partials[0, -2, 1] = scaled.abs().sum()
    partials[0, -1, 0] = s.square().sum(dtype=partials.dtype)


def recursion(
    partials: Tensor,
    loss: Tensor,
    gram: Tensor,
    ring: Tensor,
    scalars: Tensor,
    coefficients: Tensor,
) -> None:
    """Keep or reject the new pair, update the Gram and the ring, and solve for the coefficients.

    `loss` [] is the loss whose gradient the partials are from. A loss or gradient that is not
    finite (for the kernel: nor its sum of squares), with a safe start also a leap of the loss,
    empties the history, halves the learning rate and asks `lbfgs_apply` for a rollback.
    """
    head, age = ring[HEAD], ring[AGE]
    safe = scalars[FIRST] > 0.0
    slots = gram.shape[1]
    products = partials.sum(0)
    sg, sy, yg, yy = products[:-2].view(slots, 4).unbind(1)
    gg, g_norm1, ss, _ = products[-2:].flatten().unbind()

    loss = loss.to(scalars.dtype).reshape(())
    ys = sy.gather(0, head[None]).squeeze(0)
    y_norm2 = yy.gather(0, head[None]).squeeze(0)
    finite = torch.isfinite(gg) & torch.isfinite(ys) & torch.isfinite(loss)
    good = finite & ~(safe & (loss > LEAP * scalars[BEST_LOSS].abs()))
    improved = good & (loss <= scalars[BEST_LOSS])
    least = torch.where(safe, COSINE * (ss * y_norm2).sqrt(), CURVATURE)
    kept = good & (age > 0) & (ys > least)
    next_head = torch.where(kept, (head + 1) % slots, head)

    slot = torch.arange(slots, device=ring.device)
    new = slot == head
    # The slot that comes next is the spare one: if a pair was in it, that was the oldest.
    gone = kept & (slot == next_head)
    gone = gone[:, None] | gone[None, :]
    inverse, y_gram = gram.unbind(0)
    column = torch.where(new, 1.0, -(inverse @ sy)) / ys
    appended = torch.where(kept & new[None, :], column[:, None], inverse)
    inverse = torch.where(gone | ~good, 0.0, appended)
    crossed = torch.where(new[None, :], yy[:, None], torch.where(new[:, None], yy, y_gram))
    y_gram = torch.where(kept, crossed, y_gram)
    y_gram = torch.where(gone | ~good, 0.0, y_gram)
    gram[0], gram[1] = inverse, y_gram

    reach = scalars[REACH]
    grown = torch.where(loss > scalars[LAST_LOSS], reach * REACH_FALLS, reach * REACH_GROWS)
    grown = grown.minimum(scalars[FULL_REACH]).clamp(min=1.0)
    reach = torch.where(kept, grown, torch.where(good, reach, 1.0))
    gamma = torch.where(kept, reach * ys / y_norm2, scalars[GAMMA])
    gamma = torch.where(good, gamma, 1.0)
    rollbacks = ring[ROLLBACKS] + (~good).to(ring.dtype)
    lr = torch.where(good, scalars[LR], 0.5 * scalars[LR])
    count = torch.clamp(ring[COUNT] + kept.to(ring.dtype), max=slots - 1)
    # Torch steps by -g where the first pair is refused: by 1 too much, or far too little.
    first = torch.where(
        safe, scalars[FIRST] / g_norm1.clamp_min(TINY), torch.clamp(1.0 / g_norm1, max=1.0)
    )
    t = torch.where((age == 0) | (safe & (count == 0)), lr * first, lr)

    diagonal = inverse.diagonal()
    d = torch.where(diagonal > 0.0, 1.0 / diagonal, 0.0)
    alpha = -(inverse @ sg)
    c = inverse.T @ (d * alpha + gamma * (yg + y_gram @ alpha))
    coefficients[:-1] = (t * torch.stack((c, -gamma * alpha), 1)).flatten()
    coefficients[-1] = -t * gamma

    scalars[LR] = torch.where(good, torch.minimum(REGAIN * lr, scalars[FULL_LR]), lr)
    scalars[GAMMA] = gamma
    scalars[REACH] = reach
    scalars[LAST_LOSS] = torch.where(good, loss, float("inf"))
    scalars[BEST_LOSS] = torch.where(improved, loss, scalars[BEST_LOSS])
    action = torch.where(improved, STEP_AND_SAVE, STEP)
    ring.copy_(
        torch.stack(
            (
                torch.where(good, next_head, 0),
                torch.where(good, count, 0),
                torch.where(good, age + 1, 0),
                rollbacks,
                torch.where(good, action, ROLL_BACK),
            )
        )
    )


def apply(
    grad: Tensor,
    scaled: Tensor,
    coefficients: Tensor,
    ring: Tensor,
    scalars: Tensor,
    image: Tensor,
    best: Tensor,
    previous: Tensor,
    history: Tensor,
) -> None:
    """Move image [n] by the step and file the step as s of the spare slot, or roll back to best.

    One read of the history. The step is limited and rounded to the history's dtype before it is
    taken, so the stored s is what the image moved by, exactly.
    """
    n = grad.numel()
    rows = _rows_in_use(history, ring)
    weights = coefficients[: rows.shape[0]].to(image.dtype)
    undo = ring[ACTION] == ROLL_BACK
    step = torch.mul(scaled, coefficients[-1].to(image.dtype), out=previous[1, :n])
    if rows.dtype == image.dtype:
        step.addmv_(rows[:, :n].T, weights)
    else:
        for start in range(0, n, _CONVERT):
            part = rows[:, start : min(start + _CONVERT, n)].to(image.dtype)
            step[start : start + _CONVERT].addmv_(part.T, weights)
    largest = scalars[LARGEST].to(image.dtype)
    step.clamp_(-largest, largest).masked_fill_(undo, 0.0)
    stored = _storable(step, history)
    history[:, 0, :n].index_copy_(0, ring[HEAD : HEAD + 1], stored[None])
    torch.where(ring[ACTION] == STEP_AND_SAVE, image, best, out=best)
    image.add_(stored)
    torch.where(undo, best, image, out=image)
    previous[::2].masked_fill_(undo, 0.0)
