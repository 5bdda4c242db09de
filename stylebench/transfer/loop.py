"""The loop: move, check, record, tell; nothing is lost when it ends early."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from time import perf_counter

from PIL import Image
from torch import Tensor

from stylebench.engines import Engine
from stylebench.optim.base import DeviceOptimizer, Optimizer
from stylebench.transfer.stepper import LOG_ROWS, LoggedStep, make_stepper

_PATIENCE = 3  # evaluations in a row that are not finite, where the optimizer rolls back
_REPORT_SECONDS = 0.1  # between two looks at a GPU
_COLUMNS = ("iteration", "seconds", "loss")  # of a row, before its terms


@dataclass(frozen=True)
class Step:
    """One iteration, as a callback sees it.

    Attributes:
        iteration: function evaluations so far, from 1.
        iterations: evaluations in all.
        loss: the sum of the terms.
        terms: loss terms by name.
        seconds: since the first evaluation began.
        share: of the whole run's work that is done, 0 to 1.
        picture: makes the image as it is now, 8-bit; nothing is computed until it is called.
    """

    iteration: int
    iterations: int
    loss: float
    terms: dict[str, float]
    seconds: float
    share: float
    picture: Callable[[], Image.Image] = field(repr=False)

    @classmethod
    def of(
        cls,
        row: dict[str, float],
        iterations: int,
        share: float,
        picture: Callable[[], Image.Image],
    ) -> Step:
        """A row of a ``Trace`` as a step of a run of so many iterations."""
        terms = {name: value for name, value in row.items() if name not in _COLUMNS}
        iteration, seconds, loss = (row[name] for name in _COLUMNS)
        return cls(int(iteration), iterations, loss, terms, seconds, share, picture)

    @property
    def rate(self) -> float:
        """Iterations a second so far."""
        return self.iteration / self.seconds

    @property
    def eta(self) -> float:
        """Seconds to go at the rate so far."""
        return self.seconds * (1 / self.share - 1)

    def __str__(self) -> str:
        return (
            f"iteration {self.iteration}/{self.iterations}  loss {self.loss:.4g}  "
            f"{self.rate:.2f} it/s  {self.eta:.0f} s to go"
        )


@dataclass
class Trace:
    """What a run leaves behind, also when it ends early.

    Attributes:
        best: the image [1, 3, H, W], preprocessed, that had the lowest loss.
        best_loss: that loss.
        best_iteration: the evaluation that found it, from 1; 0 when there was none.
        rows: one row an evaluation: iteration, seconds, loss and every term.
        started: when, on ``perf_counter``.
    """

    best: Tensor
    best_loss: float = inf
    best_iteration: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)
    started: float = field(default_factory=perf_counter)
    _failures: int = 0

    @property
    def done(self) -> int:
        """Function evaluations so far."""
        return len(self.rows)

    def restart(self, image: Tensor) -> None:
        """Go on with another image [1, 3, H, W], whose losses are not those of the one before."""
        self.best, self.best_loss, self.best_iteration = image.clone(), inf, 0
        self._failures = 0

    def record(
        self, rows: Sequence[LoggedStep], began: float, ended: float, patience: int
    ) -> NonFinite | None:
        """Add rows evaluated between two times, up to a fault that ends the run.

        Args:
            rows: in order.
            began: seconds since the run began.
            ended: likewise.
            patience: evaluations in a row that may fail once one has succeeded.
        """
        each = (ended - began) / max(1, len(rows))
        for index, row in enumerate(rows, start=1):
            iteration = self.done + 1
            fault = None if row.finite else _fault(row, iteration)
            self._failures = self._failures + 1 if fault else 0
            if fault and (self._failures > patience or not self.best_iteration):
                return fault
            if row.finite and row.loss <= self.best_loss:
                self.best_loss, self.best_iteration = row.loss, iteration
            seconds = began + index * each
            named = {"iteration": iteration, "seconds": seconds, "loss": row.loss}
            self.rows.append({**named, **row.terms})
        return None


def _fault(row: LoggedStep, iteration: int) -> NonFinite:
    for name, value in row.terms.items():
        if not isfinite(value):
            return NonFinite(f"the loss term {name!r}", iteration)
    return NonFinite("the gradient", iteration)


class NonFinite(FloatingPointError):
    """A loss term or gradient became NaN or infinite."""

    def __init__(self, what: str, iteration: int) -> None:
        super().__init__(f"{what} became NaN or infinite at iteration {iteration}")
        self.what = what
        self.iteration = iteration


def optimize(
    engine: Engine,
    image: Tensor,
    optimizer: Optimizer | DeviceOptimizer,
    until: int,
    trace: Trace,
    tell: Callable[[dict[str, float]], object] | None = None,
    pause_every: int = 0,
) -> None:
    """Move ``image`` until a number of function evaluations, or until the optimizer converges.

    Args:
        engine: gives loss and gradient.
        image: preprocessed [1, 3, H, W], moved in place by ``optimizer``.
        optimizer: bound to ``image``.
        until: evaluations in ``trace`` when it ends, as the published implementations count.
        trace: filled as the run goes, so that an interrupt loses nothing.
        tell: called with the row of every evaluation, after each; where a GPU goes on by itself,
            some ten times a second with those since the last time.
        pause_every: be sure to stop and tell at multiples of this; 0: no matter where.

    An optimizer that rolls back is given a few evaluations to recover before the run ends.

    Raises:
        NonFinite: naming the iteration and the term, which names its layer.
    """
    iteration = make_stepper(engine, optimizer, image)
    patience = _PATIENCE if isinstance(optimizer, DeviceOptimizer) else 0
    batch = 1
    try:
        while trace.done < until and not iteration.converged:
            count = min(batch, until - trace.done)
            if pause_every:
                count = min(count, pause_every - trace.done % pause_every)
            began = perf_counter() - trace.started
            iteration.advance(count)
            rows = iteration.read()
            ended = perf_counter() - trace.started
            first = trace.done
            fault = trace.record(rows, began, ended, patience)
            if tell is not None:
                for row in trace.rows[first:]:
                    tell(row)
            if fault is not None:
                raise fault
            batch = 1 if iteration.syncs_every_step else _next_batch(count, ended - began)
    except KeyboardInterrupt:
        now = perf_counter() - trace.started
        trace.record(iteration.read(), now, now, patience)
        raise
    finally:
        trace.best.copy_(iteration.best_image)


def _next_batch(count: int, seconds: float) -> int:
    """As many iterations as fill the time between two reports, growing by doubling at most."""
    return max(1, min(2 * count, LOG_ROWS, int(count * _REPORT_SECONDS / seconds)))
