"""A user's run, iteration by iteration, for the clock."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from stylebench.bench.measure.clocks import synchronize
from stylebench.engines import Engine
from stylebench.optim.base import DeviceOptimizer, Optimizer
from stylebench.optim.lbfgs import LBFGS
from stylebench.transfer.optimizer import make_optimizer
from stylebench.transfer.problem import Problem
from stylebench.transfer.settings import Settings
from stylebench.transfer.stepper import WARMUP_STEPS, GraphStepper, make_stepper

QUICK_PAIRS = 10  # of a history that quick suites fill


class TimedRun:
    """A run of the problem's engine with the optimizer that a user would get.

    Attributes:
        image: the current image, preprocessed [1, 3, H, W], updated in place.
        engine: evaluates it.
        optimizer: updates it.
    """

    def __init__(self, problem: Problem, settings: Settings) -> None:
        self.image: Tensor = problem.image.clone()
        self.engine: Engine = problem.engine
        self.optimizer: Optimizer | DeviceOptimizer = make_optimizer(settings, problem, self.image)
        self._pairs = (
            problem.parameters["history"] if "lbfgs" in problem.parameters["optimizer"] else 0
        )
        alone = problem.ranks.alone
        self._stepper = make_stepper(self.engine, self.optimizer, self.image, capture=alone)

    def advance(self, iterations: int) -> None:
        """Launch ``iterations`` of them; only the optimizer reads anything back."""
        self._stepper.advance(iterations)

    def logged(self) -> Tensor:
        """Loss terms [K] of the latest iteration as it logged them, fp64; waits for its end."""
        terms = self._stepper.read()[-1].terms
        return torch.tensor(list(terms.values()), dtype=torch.float64)

    @property
    def best(self) -> Tensor:
        """The image of the lowest loss so far."""
        return self._stepper.best_image

    @property
    def replays(self) -> bool:
        """Whether ``advance`` replays a CUDA graph."""
        return isinstance(self._stepper, GraphStepper) and self._stepper.captured

    def settle(self, like: TimedRun | None = None, most: int | None = None) -> float | None:
        """Run until every iteration costs the same; return the seconds that a graph's capture took.

        Each pair that L-BFGS keeps makes its next iteration dearer, so its history is filled.

        Args:
            like: a settled run of the same problem and optimizer, whose image and history are
                taken over: a slow engine would take minutes for its own.
            most: pairs to fill at most, where a full history would take too long.
        """
        self.advance(WARMUP_STEPS)
        capture = self._capture() if self.image.is_cuda else None
        theirs = like.optimizer if like else None
        if like and isinstance(self.optimizer, LBFGS) and isinstance(theirs, LBFGS):
            self.optimizer.load_state_dict(theirs.state_dict())
            self.image.copy_(like.image)
        else:
            self.advance(self._pairs if most is None else min(most, self._pairs))
        synchronize(self.image.device)
        return capture

    def _capture(self) -> float | None:
        synchronize(self.image.device)
        start = time.perf_counter()
        self.advance(1)
        synchronize(self.image.device)
        return time.perf_counter() - start if self.replays else None
