"""The buffers of L-BFGS on the device, and the places of values in them; see `op`."""

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

CURVATURE = 1e-10
"""As in torch.optim.LBFGS a pair is kept only if y . s exceeds this."""

COSINE = 1e-6
"""A safe start keeps a pair only if y . s exceeds this share of |y| |s|, in whatever units."""

LARGEST_LEVELS = 32.0
"""A safe start's largest change of a value in one step, in grey levels."""

LEAP = 10.0
"""With a safe start, a loss of so many times the lowest is rolled back."""

REACH_GROWS, REACH_FALLS = 1.05, 0.8
"""Factors of the reach after a step that has lowered the loss, and after one that has raised it."""

TINY = 1e-30
"""The 1-norm of a gradient is taken for at least this: a gradient of zero makes no step."""

REGAIN = 2.0**0.125
"""Factor by which each step regains the learning rate that a rollback has halved."""

HEAD, COUNT, AGE, ROLLBACKS, ACTION = range(5)
"""Places in `LBFGSState.ring`."""

STEP, STEP_AND_SAVE, ROLL_BACK = range(3)
"""Values of `ring[ACTION]`, instructions to `lbfgs_apply`."""

GAMMA, BEST_LOSS, LR, FULL_LR, FIRST, LARGEST, REACH, FULL_REACH, LAST_LOSS = range(9)
"""Places in `LBFGSState.scalars`."""

ROWS = 8
"""Rows of the history that one program takes its products of."""

PROGRAMS = 384
"""Of all rows: what a GPU of 130 multiprocessors runs at once, three to each."""

ROW = 1024
"""Rows are padded to a multiple of this: aligned vector loads for every n."""


@dataclass(frozen=True)
class LBFGSState:
    """Every buffer of the optimizer, allocated once. `slots` is the history length m plus one.

    The spare slot, `ring[HEAD]`, holds the pair being formed: keeping it moves the head, rejecting
    it does not, and no pair is ever copied. Slots 0 .. `ring[COUNT]` are in use.

    Attributes:
        history: [slots, 2, stride] fp32, bf16 or fp64; s then P y of each slot, zero beyond n.
        previous: [3, stride] dtype of the image; the gradient g before this one, a row for `cpu`
            to work in, and P g.
        best: [n] dtype of the image; the image of the lowest finite loss.
        gram: [2, slots, slots] fp64; the inverse of R, then Y^T Y, by slot. Rows and columns of
            the inverse that belong to no kept pair are zero, which masks them everywhere.
        partials: [splits, 2 slots + 2, 2] fp64; inner products of every row of the history with
            the gradient and with y; then g . g and the 1-norm of P g; then s . s of the spare slot
            and 0. Summed over splits.
        coefficients: [2 slots + 1] fp64; the step as a combination of the history's rows and g.
        ring: [5] int64; head, count, gradients seen since the start or rollback, rollbacks, action.
        scalars: [9] fp64; gamma, lowest loss, learning rate now, learning rate asked for, the sum
            of a first step's changes (0: torch's, see `lbfgs_state`), the largest change of a step,
            the reach now (gamma as a multiple of y.s / y.Py), the largest reach, the loss before.
    """

    history: Tensor
    previous: Tensor
    best: Tensor
    gram: Tensor
    partials: Tensor
    coefficients: Tensor
    ring: Tensor
    scalars: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes in all buffers."""
        return sum(t.nbytes for t in vars(self).values())

    def dots_operands(self, grad: Tensor, scaled: Tensor | None = None) -> tuple[Tensor, ...]:
        """The operands of `lbfgs_dots` at the gradient [n], in its order.

        `scaled` [n] is P times the gradient; None where P is 1.
        """
        scaled = grad if scaled is None else scaled
        return grad, scaled, self.previous, self.history, self.ring, self.partials

    def recursion_operands(self, loss: Tensor) -> tuple[Tensor, ...]:
        """The operands of `lbfgs_recursion` at the loss [], in its order."""
        return self.partials, loss, self.gram, self.ring, self.scalars, self.coefficients

    def apply_operands(
        self, grad: Tensor, image: Tensor, scaled: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """The operands of `lbfgs_apply` at the gradient [n] and the image [n], in its order."""
        scaled = grad if scaled is None else scaled
        small = self.coefficients, self.ring, self.scalars
        return grad, scaled, *small, image, self.best, self.previous, self.history


def padded(n: int) -> int:
    """The floats from one vector [n] of a history to the next: whole rows."""
    return -(-n // ROW) * ROW


def lbfgs_state(
    image: Tensor,
    history: int,
    lr: float,
    history_dtype: torch.dtype,
    level: float | None = None,
    reach: float = 1.0,
) -> LBFGSState:
    """Buffers for minimizing over `image` [n] with up to `history` pairs, on its device.

    `level`, one grey level in the image's units, makes a safe start; None steps as torch does.
    `reach` is the largest multiple of y.s / y.Py that gamma may be; 1 is torch's.
    """
    device, n, slots = image.device, image.numel(), history + 1
    stride = padded(n)
    # Apple's GPUs have no fp64; the small algebra is fp32 there.
    small = torch.float32 if device.type == "mps" else torch.float64
    # Meta buffers stand for a GPU's.
    parallel = device.type in ("cuda", "meta")
    splits = -(-stride // split_length(stride, slots)) if parallel else 1
    rows = 2 * slots
    first, largest = (level * n, level * LARGEST_LEVELS) if level else (0.0, inf)
    return LBFGSState(
        history=torch.zeros(slots, 2, stride, dtype=history_dtype, device=device),
        previous=torch.zeros(3, stride, dtype=image.dtype, device=device),
        best=image.detach().clone(),
        gram=torch.zeros(2, slots, slots, dtype=small, device=device),
        partials=torch.zeros(splits, rows + 2, 2, dtype=small, device=device),
        coefficients=torch.zeros(rows + 1, dtype=small, device=device),
        ring=torch.zeros(5, dtype=torch.int64, device=device),
        scalars=torch.tensor(
            [1.0, inf, lr, lr, first, largest, 1.0, reach, inf], dtype=small, device=device
        ),
    )


def split_length(stride: int, slots: int) -> int:
    """Columns of one partial sum: enough splits to fill a GPU, few enough for one block to add.

    A program has 16 KB of an fp32 history under way, 8 KB of a bf16 one, and a GPU reads at full
    speed with some 3 MB. So a short history, with few programs a split, takes more splits. A long
    one takes 32, so that its first pairs are not read by too few programs either.
    """
    groups = -(-2 * slots // ROWS) + 1  # one more has the norms
    splits = max(32, PROGRAMS // groups)
    return max(8 * ROW, -(-stride // (splits * ROW)) * ROW)
