"""The phases of a run: smaller images first, each the start of the next, and a polish in fp32."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import gcd
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from stylebench.model.precision import PRECISIONS
from stylebench.transfer.device import resolve_precision
from stylebench.transfer.settings import Settings

if TYPE_CHECKING:
    from stylebench.transfer.problem import Problem

_POLISH = 0.5  # of the iterations
_POLISH_AFTER_SCALES = 0.3  # a run that began smaller ends with loss to spare
_SHORT = 50  # iterations in which bf16's noise does not show yet
_FP32_COST = 5.0  # iterations in bf16 that one in fp32 takes the time of
_BICUBIC = 3  # positions that the filter reaches
_SMALLEST_COST = 64**2  # px^2, that every iteration takes the time of beside its own; measured


@dataclass(frozen=True)
class Phase:
    """A stretch of a run at one size and one precision.

    Attributes:
        index: its place in the run, from 0.
        settings: to run it with.
        iterations: its function evaluations.
        total: those of all phases.
        before: share of the whole work that is done when it begins.
        after: likewise when it ends.
        polishes: it goes on with the image and the optimizer of the phase before it.
        last: no phase follows.
    """

    index: int
    settings: Settings
    iterations: int
    total: int
    before: float
    after: float
    polishes: bool = False
    last: bool = True

    def share(self, done: int) -> float:
        """The share of the whole work that is done after so many of its iterations."""
        return self.before + (self.after - self.before) * done / self.iterations

    def seconds_to_go(self, done: int, first: float, now: float) -> float:
        """The whole run's remaining seconds, at the pace of this phase so far.

        A phase's first iteration shows no pace: what is done once has its time as well, such as
        building the network. The run's pace stands in for it.

        Args:
            done: this phase's iterations so far, 1 or more.
            first: seconds since the run began, after the first of them.
            now: likewise after the last.
        """
        share = self.share(done)
        if done == 1:
            return (1 - share) * now / share
        return (1 - share) * (now - first) / (share - self.share(1))


def make_schedule(settings: Settings, polish: int = 0) -> list[Phase]:
    """The phases of a run, the size that was asked for last.

    Args:
        settings: with the scales.
        polish: iterations at the end of the last scale that are in fp32.
    """
    *smaller, (size, count) = settings.schedule().items()
    stretches = [(*scale, False) for scale in [*smaller, (size, count - polish)]]
    stretches += [(size, polish, True)]
    stretches = [stretch for stretch in stretches if stretch[1]]
    costs = [
        n * (side**2 + _SMALLEST_COST) * (_FP32_COST if polishes else 1)
        for side, n, polishes in stretches
    ]
    shares = [sum(costs[:index]) / sum(costs) for index in range(len(costs) + 1)]
    total = sum(settings.schedule().values())
    return [
        Phase(
            index, _settings_of(settings, side, n, polishes), n, total, before, after, polishes,
            last=index == len(stretches) - 1,
        )
        for index, ((side, n, polishes), (before, after)) in enumerate(
            zip(stretches, pairwise(shares), strict=True)
        )
    ]  # fmt: skip


def _settings_of(settings: Settings, size: int, iterations: int, polishes: bool) -> Settings:
    """``settings`` for one phase alone."""
    precision = "fp32" if polishes else settings.precision
    return replace(
        settings, scales=None, size=size, iterations=iterations, precision=precision, polish=0
    )


def polish_iterations(settings: Settings) -> int:
    """Iterations at the end that are in fp32: those asked for, or those that bf16 needs."""
    precision = PRECISIONS[resolve_precision(settings)]
    iterations = settings.resolved_preset().iterations
    if precision.dtype == precision.wide:
        return 0
    if settings.polish is not None:
        return min(settings.polish, iterations)
    if not precision.noisy or iterations <= _SHORT:
        return 0
    began_smaller = len(settings.schedule()) > 1
    return round((_POLISH_AFTER_SCALES if began_smaller else _POLISH) * iterations)


def warm_start(image: Tensor, start: Tensor, target: Problem) -> Problem:
    """``target``, starting from what a smaller image became.

    The small image's change, upsampled, is added to the large starting image, which keeps its own
    detail. Noise has no detail worth keeping: the small image itself is upsampled there, and noise
    that was mixed in is left out.

    Args:
        image: the smaller one, preprocessed [1, 3, h, w], the rows of all processes.
        start: [1, 3, h, w], that it began as, likewise.
        target: the larger problem.
    """
    if target.preset.init == "noise":
        return replace(target, image=_upsampled(image, target))
    return replace(target, image=target.start + _upsampled(image - start, target))


def _upsampled(image: Tensor, target: Problem) -> Tensor:
    """Preprocessed [1, 3, h, w] in the size and dtype of ``target``, its rows; not clamped.

    A seamless one is surrounded by itself before, and cut out of that again.
    """
    height, width = size = target.shape[-2:]
    if not target.preset.seamless:
        whole = F.interpolate(image, size, mode="bicubic", align_corners=False)
        return target.bands.own(whole).to(target.image)
    sides = zip(image.shape[-2:], size, strict=True)
    (top, large_top), (left, large_left) = (_margin(small, large) for small, large in sides)
    image = F.pad(image, (left, left, top, top), mode="circular")
    size = height + 2 * large_top, width + 2 * large_left
    large = F.interpolate(image, size, mode="bicubic", align_corners=False).to(target.image)
    return large.narrow(2, large_top, height).narrow(3, large_left, width).contiguous()


def _margin(small: int, large: int) -> tuple[int, int]:
    """Positions around a side, and what they become, that a bicubic filter does not reach beyond.

    Both are whole numbers, so that the grid of the larger side stays where it is.
    """
    common = gcd(small, large)
    times = min(common, -(-_BICUBIC * common // small))
    return times * small // common, times * large // common
