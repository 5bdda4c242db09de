"""The iteration that a user runs, as something to be timed."""

from __future__ import annotations

from torch import Tensor

from stylebench.problem import Problem
from stylebench.settings import Settings
from stylebench.transfer import optimiser_for


class Walk:
    """A run on its way: the problem's engine, and the optimiser that a user would get.

    Attributes:
        image: the current one, preprocessed [1, 3, H, W], moved in place.
        replays: whether ``advance`` replays a CUDA graph.
    """

    def __init__(self, problem: Problem, settings: Settings) -> None:
        self.image: Tensor = problem.image.clone()
        self.replays = False
        self._engine = problem.engine
        self._optimiser = optimiser_for(settings, problem, self.image)

    def advance(self, iterations: int) -> None:
        """Launch so many iterations; nothing is read back that the optimiser does not read."""
        for _ in range(iterations):
            terms, gradient = self._engine.loss_and_grad(self.image)
            self._optimiser.step(gradient, terms.total)
