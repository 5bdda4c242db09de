"""Curvature over several steps at once, for gradients with rounding noise in them.

L-BFGS learns from y = g_k - g_(k-1). Near the optimum steps are short and, in half precision, the
rounding of the two gradients is a good part of y. The pair x_k - x_(k-3), g_k - g_(k-3) has the
same noise on a change three times as large ("lengthening": Shi, Xie, Byrd and Nocedal, "A
noise-tolerant quasi-Newton algorithm for unconstrained optimization", SIAM J. Optim. 32, 2022). Far
from the optimum, where the curvature changes from step to step, single steps learn faster.

Measured: in bf16 the loss after 300 iterations is 0.4 to 1.4 % lower for it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stylekernels.ops.lbfgs.state import AGE, HEAD, LBFGSState

STRIDE = 3  # steps a pair; 2 and 5 gained less
WARMUP = 100  # gradients with pairs of single steps; from 30 or 60 on, and from 150, gained less


class Lengthening:
    """The last ``STRIDE`` images and gradients, on the device, which is never waited for.

    Args:
        image: [n], whose size, dtype and device they have.
    """

    def __init__(self, image: Tensor) -> None:
        self.images = image.new_zeros(STRIDE, image.numel())
        self.gradients = torch.zeros_like(self.images)

    @property
    def nbytes(self) -> int:
        """Bytes of both."""
        return self.images.nbytes + self.gradients.nbytes

    def lengthen(self, image: Tensor, grad: Tensor, state: LBFGSState) -> None:
        """Have the pair that ``state`` is about to form begin ``STRIDE`` steps ago, not one.

        Args:
            image: [n], as it is now.
            grad: [n], the gradient there.
            state: between two steps: its spare slot holds the last step, its ``previous`` the
                gradient before ``grad``; both are exchanged for those of the longer way.
        """
        n = image.numel()
        age = state.ring[AGE : AGE + 1]
        begin = (age - torch.where(age < WARMUP, 1, STRIDE)) % STRIDE
        state.previous[0, :n].copy_(self.gradients.index_select(0, begin)[0])
        way = (image - self.images.index_select(0, begin)[0]).to(state.history.dtype)
        state.history[:, 0, :n].index_copy_(0, state.ring[HEAD : HEAD + 1], way[None])
        now = age % STRIDE
        self.images.index_copy_(0, now, image[None])
        # What is not finite is rolled back by the step, and must not come back three steps later.
        self.gradients.index_copy_(0, now, torch.nan_to_num(grad, 0.0, 0.0, 0.0)[None])
