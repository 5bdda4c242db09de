"""torch's own L-BFGS and Adam as ``Optimizer``: one function evaluation per step."""

from __future__ import annotations

import torch
from torch import Tensor


class TorchLBFGS:
    """``torch.optim.LBFGS`` without line search, as the published implementations use it.

    One ``step`` is one iteration of torch's loop: with ``max_iter=1`` its state carries over from
    call to call, and the trajectory is that of one long call. torch skips its tests for convergence
    after the last of ``max_iter`` iterations, so ``step`` makes them itself.

    Args:
        image: [1, 3, H, W], moved in place.
        history: number of pairs kept, in memory of 2 image sizes per pair.
        learning_rate: step length along the direction; the first step is at most 1 / |g|_1 of it.
        tolerance_grad: converged when no gradient component is larger; a negative value disables
            the test.
        tolerance_change: converged when the image or the loss changes less; likewise.
    """

    def __init__(
        self,
        image: Tensor,
        history: int = 100,
        learning_rate: float = 1.0,
        tolerance_grad: float = -1.0,
        tolerance_change: float = -1.0,
    ) -> None:
        self._image = image
        self._tolerance_grad = tolerance_grad
        self._tolerance_change = tolerance_change
        self._previous_loss: float | None = None
        self._optimizer = torch.optim.LBFGS(
            [image],
            lr=learning_rate,
            max_iter=1,
            history_size=history,
            tolerance_grad=tolerance_grad,
            tolerance_change=tolerance_change,
        )

    def step(self, gradient: Tensor, loss: Tensor) -> bool:
        """As ``Optimizer.step``."""
        previous_loss, self._previous_loss = self._previous_loss, loss.item()
        if gradient.abs().max() <= self._tolerance_grad:
            return True
        self._image.grad = gradient
        self._optimizer.step(lambda: self._previous_loss)  # type: ignore[no-untyped-call]
        state = self._optimizer.state[self._image]
        if (state["d"] * state["t"]).abs().max() <= self._tolerance_change:
            return True
        return (
            previous_loss is not None
            and abs(self._previous_loss - previous_loss) < self._tolerance_change
        )


class TorchAdam:
    """``torch.optim.Adam`` with its defaults.

    Args:
        image: [1, 3, H, W], moved in place.
        learning_rate: step length, in units of the image.
    """

    def __init__(self, image: Tensor, learning_rate: float) -> None:
        self._image = image
        self._optimizer = torch.optim.Adam([image], lr=learning_rate)

    def step(self, gradient: Tensor, loss: Tensor) -> bool:  # noqa: ARG002  # Adam needs no loss
        """As ``Optimizer.step``; Adam never reports convergence."""
        self._image.grad = gradient
        self._optimizer.step()
        return False
