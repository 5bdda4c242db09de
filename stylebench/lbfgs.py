"""L-BFGS that never leaves the device.

The mathematics of `torch.optim.LBFGS` at its defaults without a line search: the first step has
length min(1, 1/||g||_1) * lr, later ones lr; a pair is kept only if y . s > 1e-10; H0 = y.s / y.y;
the oldest pair goes when the history is full; the direction is -g while there is no pair. There
are no stopping tests (as with both of torch's tolerances at -1, which is what neural-style-pt
runs): they would need the host.
"""

from typing import Any

import torch
from stylekernels.lbfgs import (
    AGE,
    BEST_LOSS,
    COUNT,
    ROLLBACKS,
    lbfgs_apply,
    lbfgs_dots,
    lbfgs_recursion,
    lbfgs_state,
)
from torch import Tensor


def flat(tensor: Tensor, like: Tensor) -> Tensor:
    """`tensor` as [n] in the order in which `like` lies in memory; a view if laid out as `like`."""
    if like.is_contiguous():
        return tensor.reshape(-1)
    return tensor.permute(0, 2, 3, 1).reshape(-1)


class LBFGS:
    """Moves `image` in place, one call an iteration, one gradient a call.

    Memory is 2 (history + 1) vectors of the image's size in `history_dtype`, and two in the
    image's: at 512 x 512 and history 20 in fp32 138 MB, in bf16 72 MB.
    """

    def __init__(
        self,
        image: Tensor,
        history: int = 20,
        lr: float = 1.0,
        history_dtype: torch.dtype | None = None,
    ) -> None:
        self.image = image
        self.history = history
        self._x = flat(image.detach(), image)
        self._no_loss = torch.zeros((), dtype=torch.float32, device=image.device)
        self._state = lbfgs_state(self._x, history, lr, history_dtype or image.dtype)

    @torch.no_grad()
    def step(self, grad: Tensor, loss: Tensor | None = None) -> None:
        """Move the image."""
        g, state = flat(grad, self.image), self._state
        lbfgs_dots(g, state.previous, state.history, state.ring, state.partials)
        lbfgs_recursion(
            state.partials,
            self._no_loss if loss is None else loss,
            state.gram,
            state.ring,
            state.scalars,
            state.coefficients,
        )
        lbfgs_apply(
            g,
            state.coefficients,
            state.ring,
            self._x,
            state.best,
            state.previous,
            state.history,
        )

    def state_dict(self) -> dict[str, Any]:
        return vars(self._state)
