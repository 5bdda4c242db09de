"""The optimizer that a user's settings come to."""

from __future__ import annotations

from torch import Tensor

from stylebench.optim.adam import Adam
from stylebench.optim.base import DeviceOptimizer, Optimizer
from stylebench.optim.lbfgs import LBFGS
from stylebench.optim.spectral import SpectralPreconditioner
from stylebench.optim.torch_optimizers import TorchAdam, TorchLBFGS
from stylebench.transfer.device import choose_learning_rate
from stylebench.transfer.fields import HISTORY_DTYPES
from stylebench.transfer.problem import Problem
from stylebench.transfer.settings import Settings

_GREY_LEVELS = 255  # from black to white
_REACH = 5.0  # times what a pair says of gamma, at most: docs/decisions/spectral.md


def make_optimizer(
    settings: Settings, problem: Problem, image: Tensor
) -> Optimizer | DeviceOptimizer:
    """The optimizer that ``problem`` has chosen.

    Args:
        settings: its options.
        problem: its choice of optimizer, engine and precision decide.
        image: preprocessed [1, 3, H, W], that the optimizer is bound to; the rows of this process.

    Raises:
        ValueError: torch's own L-BFGS, and a history dtype that it does not have.
    """
    chosen, history = problem.parameters["optimizer"], problem.parameters["history"]
    black_to_white = problem.preprocessing.range
    rate = choose_learning_rate(settings.learning_rate, chosen)
    if chosen == "adam":
        rate *= black_to_white
        if problem.engine.name == "reference" and not settings.distributed:
            return TorchAdam(image, rate)
        return Adam(image, rate, ranks=problem.bands.ranks)
    if chosen == "torch-lbfgs":
        if settings.history_dtype == "bf16":
            raise ValueError(
                "torch's own L-BFGS, which the reference engine and tolerances take, has no bf16 "
                "history; drop history_dtype, or choose optimizer lbfgs and no tolerances"
            )
        return TorchLBFGS(image, history, rate, settings.tolerance_grad, settings.tolerance_change)
    return LBFGS(
        image,
        history,
        rate,
        HISTORY_DTYPES.get(settings.history_dtype or ""),
        level=black_to_white / _GREY_LEVELS,
        preconditioner=SpectralPreconditioner(image, problem.bands),
        reach=_REACH,
        ranks=problem.bands.ranks,
    )
