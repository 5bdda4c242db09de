"""An image on its way, and the optimizer that a user's settings come to."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from stylebench.model.precision import PRECISIONS
from stylebench.optim.adam import Adam
from stylebench.optim.base import DeviceOptimizer, Optimizer
from stylebench.optim.lbfgs import LBFGS
from stylebench.optim.torch_optimizers import TorchAdam, TorchLBFGS
from stylebench.transfer.problem import Problem
from stylebench.transfer.settings import HISTORY_DTYPES, Settings

_ADAM_RATE = 0.02  # of the image's range, as crowsonkb/style-transfer-pytorch


@dataclass(frozen=True)
class Moved:
    """An image on its way, preprocessed [1, 3, H, W], and what moves it."""

    image: Tensor
    optimizer: Optimizer | DeviceOptimizer

    @classmethod
    def of(cls, problem: Problem, settings: Settings) -> Moved:
        """The start of ``problem``, with the optimizer that ``settings`` name."""
        image = problem.image.clone()
        return cls(image, make_optimizer(settings, problem, image))

    def reset_best(self) -> None:
        """Go on, with the curvature that was learnt, to gradients of another precision."""
        if isinstance(self.optimizer, DeviceOptimizer):
            self.optimizer.reset_best()


def make_optimizer(
    settings: Settings, problem: Problem, image: Tensor
) -> Optimizer | DeviceOptimizer:
    """Torch's own for the reference; elsewhere the ones that never leave the device.

    Raises:
        ValueError: torch's own L-BFGS is needed, and a history dtype that it does not have asked.
    """
    plain = problem.engine.name == "reference"
    if settings.optimizer == "adam":
        scale = sum(problem.preprocessing.scale) / len(problem.preprocessing.scale)
        rate = (settings.learning_rate or _ADAM_RATE) * scale
        return TorchAdam(image, rate) if plain else Adam(image, rate)
    rate = settings.learning_rate or 1.0
    tolerances = settings.tolerance_grad, settings.tolerance_change
    if plain or max(tolerances) >= 0:  # testing for convergence takes the host
        if settings.history_dtype == "bf16":
            raise ValueError(
                "torch's own L-BFGS, which the reference engine and tolerances take, has no bf16 "
                "history; drop history_dtype, or choose engine fused and no tolerances"
            )
        return TorchLBFGS(image, settings.history, rate, *tolerances)
    dtype = HISTORY_DTYPES.get(settings.history_dtype or "")
    noisy = PRECISIONS[problem.parameters["precision"]].noisy
    return LBFGS(image, settings.history, rate, dtype, noisy=noisy)
