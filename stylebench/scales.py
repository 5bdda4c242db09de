"""Coarse to fine: a smaller image first, whose result is where the next larger one starts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor

from stylebench.problem import Problem
from stylebench.settings import Settings


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
    """

    settings: Settings
    iterations: int
    total: int
    before: float
    after: float

    def share(self, done: int) -> float:
        """What part of the whole work is done after so many of its iterations."""
        return self.before + (self.after - self.before) * done / self.iterations


def coarse_to_fine(settings: Settings) -> list[Leg]:
    """The legs of a run, the scale that was asked for last."""
    schedule = settings.schedule()
    costs = [count * size**2 for size, count in schedule.items()]
    done = [sum(costs[:index]) / sum(costs) for index in range(len(costs) + 1)]
    total = sum(schedule.values())
    return [
        Leg(replace(settings, scales=None, size=size, iterations=count), count, total, *share)
        for (size, count), share in zip(schedule.items(), pairwise(done), strict=True)
    ]


def carried(image: Tensor, source: Problem, target: Problem) -> Problem:
    """``target``, to start from what ``source`` came to.

    The way that the smaller image went from its start is gone again from the target's own start,
    which so keeps the detail that a smaller image cannot hold. Noise has none worth keeping.

    Args:
        image: preprocessed [1, 3, h, w] of ``source``.
        source: the smaller problem.
        target: the larger one.
    """
    if target.variant.init == "noise":
        return replace(target, image=_enlarged(image, target.image))
    return replace(target, image=target.image + _enlarged(image - source.image, target.image))


def _enlarged(image: Tensor, like: Tensor) -> Tensor:
    """Preprocessed [1, 3, h, w] in the size and dtype of ``like``; not clamped."""
    size = like.shape[-2:]
    return F.interpolate(image, size=size, mode="bicubic", align_corners=False).to(like)
