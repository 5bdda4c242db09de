"""The loop: evaluate, check, record, tell, move; nothing is lost when it ends early."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from time import perf_counter

from PIL import Image
from torch import Tensor

from stylebench.engines import Engine
from stylebench.iteration import LOG_ROWS, Row, iterate
from stylebench.optimisers import Optimiser, ResidentOptimiser

_PATIENCE = 3  # evaluations in a row that are not finite, where the optimiser rolls back
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
        picture: makes the image as it is now, 8-bit; nothing is computed until it is called.
    """

    iteration: int
    iterations: int
    loss: float
    terms: dict[str, float]
    seconds: float
    picture: Callable[[], Image.Image] = field(repr=False)

    @property
    def rate(self) -> float:
        """Iterations a second so far."""
        return self.iteration / self.seconds

    @property
    def eta(self) -> float:
        """Seconds to go at this rate."""
        return (self.iterations - self.iteration) / self.rate

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
    """

    best: Tensor
    best_loss: float = inf
    best_iteration: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)
    _failures: int = 0

    @property
    def done(self) -> int:
        """Function evaluations so far."""
        return len(self.rows)

    def record(
        self, rows: Sequence[Row], began: float, ended: float, patience: int
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


def _fault(row: Row, iteration: int) -> NonFinite:
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


def optimise(
    engine: Engine,
    image: Tensor,
    optimiser: Optimiser | ResidentOptimiser,
    iterations: int,
    trace: Trace,
    picture: Callable[[Tensor], Image.Image],
    callback: Callable[[Step], object] | None = None,
    pause_every: int = 0,
) -> None:
    """Move ``image`` for ``iterations`` function evaluations, or until the optimiser converges.

    Args:
        engine: gives loss and gradient.
        image: preprocessed [1, 3, H, W], moved in place by ``optimiser``.
        optimiser: bound to ``image``.
        iterations: function evaluations, as the published implementations count.
        trace: filled as the run goes, so that an interrupt loses nothing.
        picture: turns the image into what a callback may look at.
        callback: told of every evaluation: on a GPU some ten times a second of those since the
            last time, elsewhere after each.
        pause_every: be sure to stop and tell at multiples of this; 0: no matter where.

    An optimiser that rolls back is given a few evaluations to recover before the run ends.

    Raises:
        NonFinite: naming the iteration and the term, which names its layer.
    """
    start = perf_counter()
    iteration = iterate(engine, optimiser, image)
    patience = _PATIENCE if isinstance(optimiser, ResidentOptimiser) else 0
    batch = 1
    try:
        while trace.done < iterations and not iteration.converged:
            count = min(batch, iterations - trace.done)
            if pause_every:
                count = min(count, pause_every - trace.done % pause_every)
            began = perf_counter() - start
            iteration.advance(count)
            rows = iteration.read()
            ended = perf_counter() - start
            first = trace.done
            fault = trace.record(rows, began, ended, patience)
            if callback is not None:
                for row in trace.rows[first:]:
                    callback(_step(row, iterations, lambda: picture(image)))
            if fault is not None:
                raise fault
            batch = _next_batch(count, ended - began) if image.is_cuda else 1
    except KeyboardInterrupt:
        trace.record(iteration.read(), perf_counter() - start, perf_counter() - start, patience)
        raise
    finally:
        trace.best.copy_(iteration.best_image)


def _next_batch(count: int, seconds: float) -> int:
    """As many iterations as fill the time between two reports, growing by doubling at most."""
    return max(1, min(2 * count, LOG_ROWS, int(count * _REPORT_SECONDS / seconds)))


def _step(row: dict[str, float], iterations: int, picture: Callable[[], Image.Image]) -> Step:
    terms = {name: value for name, value in row.items() if name not in _COLUMNS}
    return Step(int(row["iteration"]), iterations, row["loss"], terms, row["seconds"], picture)
