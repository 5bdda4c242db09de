"""The trace of a run: every evaluation's losses, and the best image among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from time import perf_counter

from torch import Tensor

from stylebench.transfer.stepper import LoggedStep


@dataclass
class Trace:
    """The losses of a run so far, kept also when it ends early.

    Attributes:
        best: the image [1, 3, H, W], preprocessed, that had the lowest loss of the phase.
        best_loss: that loss.
        best_iteration: the evaluation that found it, from 1; 0 while there is none.
        rows: one row an evaluation: iteration, seconds, loss and every term.
        started: when the run began, on ``perf_counter``.
    """

    best: Tensor
    best_loss: float = inf
    best_iteration: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)
    started: float = field(default_factory=perf_counter)
    _failures: int = 0
    _first_loss: float = inf
    _steps: int = 0
    _rollbacks: int = 0

    @property
    def done(self) -> int:
        """Function evaluations so far."""
        return len(self.rows)

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return perf_counter() - self.started

    def restart(self, image: Tensor) -> None:
        """Forget the best image: the next losses are of another function.

        Args:
            image: [1, 3, H, W], that the next phase starts from.
        """
        self.best, self.best_loss, self.best_iteration = image.clone(), inf, 0
        self._failures, self._first_loss, self._steps, self._rollbacks = 0, inf, 0, 0

    def record(
        self, steps: Sequence[LoggedStep], began: float, ended: float, patience: int
    ) -> NonFinite | None:
        """Add evaluations, up to a fault that ends the run.

        Args:
            steps: in order.
            began: seconds from the run's beginning to that of the first.
            ended: likewise to the end of the last.
            patience: evaluations in a row that may fail once one has succeeded.
        """
        seconds_a_step = (ended - began) / max(1, len(steps))
        for index, step in enumerate(steps, start=1):
            iteration = self.done + 1
            fault = None if step.finite else _fault(step, iteration)
            self._failures = self._failures + 1 if fault else 0
            self._rollbacks += bool(fault)
            self._steps += 1
            if self._steps == 1:
                self._first_loss = step.loss
            if fault and (self._failures > patience or not self.best_iteration):
                return fault
            if step.finite and step.loss <= self.best_loss:
                self.best_loss, self.best_iteration = step.loss, iteration
            seconds = began + index * seconds_a_step
            columns = {"iteration": iteration, "seconds": seconds, "loss": step.loss}
            self.rows.append({**columns, **step.terms})
        return None

    def standstill(self) -> Standstill | None:
        """The fault of a phase whose every step was rolled back, so that no loss was lower.

        After a rollback the image is evaluated where it was: half of the evaluations fail.
        """
        all_failed = self._rollbacks and 2 * self._rollbacks >= self._steps - 1
        if all_failed and not self.best_loss < self._first_loss:
            return Standstill(self._steps)
        return None


class NonFinite(FloatingPointError):
    """A loss term or gradient became NaN or infinite.

    Attributes:
        iteration: that of the first such value.
        term: the loss term's name; empty for the gradient.
    """

    def __init__(self, iteration: int, term: str = "") -> None:
        what = f"the loss term {term!r}" if term else "the gradient"
        super().__init__(f"{what} became NaN or infinite at iteration {iteration}")
        self.iteration = iteration
        self.term = term


class Standstill(NonFinite):
    """Every step was rolled back: the picture is where it began."""

    def __init__(self, iterations: int) -> None:
        FloatingPointError.__init__(
            self, f"in {iterations} iterations no step lowered the loss: each was rolled back"
        )
        self.iteration, self.term = iterations, ""


def _fault(step: LoggedStep, iteration: int) -> NonFinite:
    spoiled = (name for name, value in step.terms.items() if not isfinite(value))
    return NonFinite(iteration, next(spoiled, ""))
