"""The loop: evaluate, check, record, tell, move; nothing is lost when it ends early."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf, isfinite
from time import perf_counter

from PIL import Image
from torch import Tensor

from stylebench.engines import Engine
from stylebench.optimisers import Optimiser

_PATIENCE = 3  # evaluations in a row that are not finite, where the optimiser recovers


@dataclass(frozen=True)
class Step:
    """One iteration, as a callback sees it.

    Attributes:
        iteration: function evaluations so far, from 1.
        iterations: evaluations in all.
        loss: the sum of the terms.
        terms: loss terms by name.
        seconds: since the first evaluation began.
        picture: makes the current image, 8-bit; nothing is computed until it is called.
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


class NonFinite(FloatingPointError):
    """A loss term or gradient became NaN or infinite."""

    def __init__(self, what: str, iteration: int) -> None:
        super().__init__(f"{what} became NaN or infinite at iteration {iteration}")
        self.what = what
        self.iteration = iteration


def _fault(values: dict[str, float], gradient: Tensor, iteration: int) -> NonFinite | None:
    for name, value in values.items():
        if not isfinite(value):
            return NonFinite(f"the loss term {name!r}", iteration)
    return None if gradient.isfinite().all() else NonFinite("the gradient", iteration)


def optimise(
    engine: Engine,
    image: Tensor,
    optimiser: Optimiser,
    iterations: int,
    trace: Trace,
    picture: Callable[[Tensor], Image.Image],
    callback: Callable[[Step], object] | None = None,
) -> None:
    """Move ``image`` for ``iterations`` function evaluations, or until the optimiser converges.

    Args:
        engine: gives loss and gradient.
        image: preprocessed [1, 3, H, W], moved in place by ``optimiser``.
        optimiser: bound to ``image``.
        iterations: function evaluations, as the published implementations count.
        trace: filled as the run goes, so that an interrupt loses nothing.
        picture: turns the image into what a callback may look at.
        callback: called after every evaluation.

    An optimiser that recovers is given a few evaluations to do so before the run ends.

    Raises:
        NonFinite: naming the iteration and the term, which names its layer.
    """
    start = perf_counter()
    failures = 0
    for iteration in range(1, iterations + 1):
        terms, gradient = engine.loss_and_grad(image)
        values = dict(zip(terms.names, terms.values.tolist(), strict=True))
        loss = sum(values.values())
        fault = _fault(values, gradient, iteration)
        failures = failures + 1 if fault else 0
        if fault and not (
            optimiser.recovers and trace.best_iteration > 0 and failures <= _PATIENCE
        ):
            raise fault
        seconds = perf_counter() - start
        if loss < trace.best_loss:
            trace.best.copy_(image)
            trace.best_loss, trace.best_iteration = loss, iteration
        trace.rows.append({"iteration": iteration, "seconds": seconds, "loss": loss, **values})
        if callback is not None:
            callback(Step(iteration, iterations, loss, values, seconds, lambda: picture(image)))
        if optimiser.step(gradient, terms.total):
            return
