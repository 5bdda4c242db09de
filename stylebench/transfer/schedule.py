"""The legs of a run: smaller images first, each the start of the next, and a polish in fp32.

A leg that polishes goes on with the image and the curvature of the one before it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor

from stylebench.model.precision import PRECISIONS
from stylebench.transfer.device import choose_device, choose_engine, choose_precision
from stylebench.transfer.problem import Problem
from stylebench.transfer.settings import Settings

_POLISH = 0.2  # of the iterations
_SHORT = 50  # iterations in which bf16's noise does not show yet
_FP32_COST = 5.0  # iterations in bf16 that one in fp32 takes the time of


@dataclass(frozen=True)
class Leg:
    """One scale of a run.

    Attributes:
        settings: to run it with.
        iterations: its function evaluations.
        total: those of all scales.
        before: what part of the whole work is done when it begins, taking an iteration to cost as
            its pixels do.
        after: likewise when it ends.
        polishes: it goes on with the image and the optimizer of the leg before it.
    """

    settings: Settings
    iterations: int
    total: int
    before: float
    after: float
    polishes: bool = False

    def share(self, done: int) -> float:
        """What part of the whole work is done after so many of its iterations."""
        return self.before + (self.after - self.before) * done / self.iterations


def coarse_to_fine(settings: Settings, polish: int = 0) -> list[Leg]:
    """The legs of a run, the scale that was asked for last.

    Args:
        settings: with the scales.
        polish: of the last scale's iterations, so many at the end are in fp32.
    """
    *smaller, (size, count) = settings.schedule().items()
    legs = [(*each, False) for each in [*smaller, (size, count - polish)]]
    legs += [(size, polish, True)]
    legs = [leg for leg in legs if leg[1]]
    costs = [n * side**2 * (_FP32_COST if polishes else 1) for side, n, polishes in legs]
    done = [sum(costs[:index]) / sum(costs) for index in range(len(costs) + 1)]
    total = sum(settings.schedule().values())
    return [
        Leg(_only(settings, side, n, polishes), n, total, *share, polishes)
        for (side, n, polishes), share in zip(legs, pairwise(done), strict=True)
    ]


def _only(settings: Settings, size: int, iterations: int, polishes: bool) -> Settings:
    """``settings`` for one leg alone."""
    precision = "fp32" if polishes else settings.precision
    return replace(
        settings, scales=None, size=size, iterations=iterations, precision=precision, polish=0
    )


def precision_of(settings: Settings) -> str:
    """The precision that a run computes in before its polish."""
    device = choose_device(settings.device)
    return choose_precision(settings, choose_engine(settings, device), device)


def polish_of(settings: Settings) -> int:
    """How many iterations at the end are in fp32: those asked for, or those that bf16 needs."""
    precision, iterations = PRECISIONS[precision_of(settings)], settings.variant().iterations
    if precision.dtype == precision.wide:
        return 0
    if settings.polish is not None:
        return min(settings.polish, iterations)
    return round(_POLISH * iterations) if precision.noisy and iterations > _SHORT else 0


def carried(image: Tensor, start: Tensor, target: Problem) -> Problem:
    """``target``, to start from what a smaller image came to.

    The way that the smaller image went from its start is gone again from the target's own start,
    which so keeps the detail that a smaller image cannot hold. Noise has none worth keeping.

    Args:
        image: the smaller one, preprocessed [1, 3, h, w].
        start: where it came from.
        target: the larger problem.
    """
    if target.variant.init == "noise":
        return replace(target, image=_enlarged(image, target.image))
    return replace(target, image=target.image + _enlarged(image - start, target.image))


def _enlarged(image: Tensor, like: Tensor) -> Tensor:
    """Preprocessed [1, 3, h, w] in the size and dtype of ``like``; not clamped."""
    size = like.shape[-2:]
    return F.interpolate(image, size=size, mode="bicubic", align_corners=False).to(like)
