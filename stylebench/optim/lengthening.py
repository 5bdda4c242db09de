"""Lengthening: L-BFGS's pairs over several steps, for gradients with rounding noise.

L-BFGS learns from y = g_k - g_(k-1). Near the optimum steps are short, and in half precision the
rounding of the two gradients is a good part of y. The pair x_k - x_(k-3), g_k - g_(k-3) has the
same noise on a change three times as large ("lengthening": Shi, Xie, Byrd and Nocedal, "A
noise-tolerant quasi-Newton algorithm for unconstrained optimization", SIAM J. Optim. 32, 2022). Far
from the optimum, where the curvature changes from step to step, pairs of single steps learn faster.

Measured in bf16: the loss after 300 iterations is 0.4 to 1.4 % lower with lengthening.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stylekernels.ops.lbfgs.state import AGE, HEAD, LBFGSState

STRIDE = 3  # steps per pair; 2 and 5 gained less
WARMUP = 100  # gradients before pairs are lengthened; 30, 60 and 150 gained less


class Lengthening:
    """The last ``STRIDE`` images and gradients, on the device.

    Args:
        image: [n], any tensor of their size, dtype and device.

    Attributes:
        images: [STRIDE, n], a ring buffer.
        gradients: likewise.
    """

    def __init__(self, image: Tensor) -> None:
        self.images = image.new_zeros(STRIDE, image.numel())
        self.gradients = torch.zeros_like(self.images)

    @property
    def nbytes(self) -> int:
        """Bytes of both buffers."""
        return self.images.nbytes + self.gradients.nbytes

    def lengthen(self, image: Tensor, grad: Tensor, state: LBFGSState) -> None:
        """Let the pair that ``state`` is about to form start ``STRIDE`` steps ago, not one.

        Args:
            image: [n], the current image.
            grad: [n], its gradient.
            state: between two steps: its spare slot holds the last step, its ``previous`` the
                gradient before ``grad``; both are replaced by those of ``STRIDE`` steps.
        """
        n = image.numel()
        age = state.ring[AGE : AGE + 1]
        start = (age - torch.where(age < WARMUP, 1, STRIDE)) % STRIDE
        state.previous[0, :n].copy_(self.gradients.index_select(0, start)[0])
        change = (image - self.images.index_select(0, start)[0]).to(state.history.dtype)
        state.history[:, 0, :n].index_copy_(0, state.ring[HEAD : HEAD + 1], change[None])
        current = age % STRIDE
        self.images.index_copy_(0, current, image[None])
        # The step rolls a gradient that is not finite back; it must not return 3 steps later.
        self.gradients.index_copy_(0, current, torch.nan_to_num(grad, 0.0, 0.0, 0.0)[None])
