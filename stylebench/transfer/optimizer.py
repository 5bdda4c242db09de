"""The optimizer that a user's settings come to."""

from __future__ import annotations

from torch import Tensor

from stylebench.model.precision import PRECISIONS
from stylebench.optim.adam import Adam
from stylebench.optim.base import DeviceOptimizer, Optimizer
from stylebench.optim.lbfgs import LBFGS
from stylebench.optim.torch_optimizers import TorchAdam, TorchLBFGS
from stylebench.transfer.problem import Problem
from stylebench.transfer.settings import HISTORY_DTYPES, Settings

_ADAM_RATE = 0.02  # of the image's range, as crowsonkb/style-transfer-pytorch


def make_optimizer(
    settings: Settings, problem: Problem, image: Tensor
) -> Optimizer | DeviceOptimizer:
    """Torch's own optimizer for the reference, else one that never leaves the device.

    Args:
        settings: name the optimizer and its options.
        problem: its engine and precision decide.
        image: preprocessed [1, 3, H, W], that the optimizer is bound to.

    Raises:
        ValueError: torch's own L-BFGS is needed, and a history dtype that it does not have asked.
    """
    reference = problem.engine.name == "reference"
    if settings.optimizer == "adam":
        scale = sum(problem.preprocessing.scale) / len(problem.preprocessing.scale)
        rate = (settings.learning_rate or _ADAM_RATE) * scale
        return TorchAdam(image, rate) if reference else Adam(image, rate)
    rate = settings.learning_rate or 1.0
    tolerances = settings.tolerance_grad, settings.tolerance_change
    if reference or max(tolerances) >= 0:  # testing for convergence takes the host
        if settings.history_dtype == "bf16":
            raise ValueError(
                "torch's own L-BFGS, which the reference engine and tolerances take, has no bf16 "
                "history; drop history_dtype, or choose engine fused and no tolerances"
            )
        return TorchLBFGS(image, settings.history, rate, *tolerances)
    dtype = HISTORY_DTYPES.get(settings.history_dtype or "")
    noisy = PRECISIONS[problem.parameters["precision"]].noisy
    return LBFGS(image, settings.history, rate, dtype, noisy=noisy)
