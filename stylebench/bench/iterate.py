"""The iteration that a user runs, as something to be timed."""

from __future__ import annotations

import time

from torch import Tensor

from stylebench.bench.clocks import synchronise
from stylebench.iteration import EAGER, OnDevice, iterate
from stylebench.problem import Problem
from stylebench.settings import Settings
from stylebench.transfer import optimiser_for


class Walk:
    """A run on its way: the problem's engine, and the optimiser that a user would get.

    Attributes:
        image: the current one, preprocessed [1, 3, H, W], moved in place.
    """

    def __init__(self, problem: Problem, settings: Settings) -> None:
        self.image: Tensor = problem.image.clone()
        optimiser = optimiser_for(settings, problem, self.image)
        self._iteration = iterate(problem.engine, optimiser, self.image)

    def advance(self, iterations: int) -> None:
        """Launch so many iterations; nothing is read back that the optimiser does not read."""
        self._iteration.advance(iterations)

    @property
    def best(self) -> Tensor:
        """The image of the lowest loss so far."""
        return self._iteration.best_image

    @property
    def replays(self) -> bool:
        """Whether ``advance`` replays a CUDA graph."""
        return isinstance(self._iteration, OnDevice) and self._iteration.captured

    def settle(self) -> float | None:
        """Go on until every iteration is like the next; seconds that capturing a graph took."""
        if not self.image.is_cuda:
            self.advance(1)
            return None
        self.advance(EAGER)
        synchronise(self.image.device)
        start = time.perf_counter()
        self.advance(1)
        synchronise(self.image.device)
        return time.perf_counter() - start if self.replays else None
