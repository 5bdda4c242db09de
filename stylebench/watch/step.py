"""One step of a run, as everyone sees it who watches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from PIL import Image

_COLUMNS = ("iteration", "seconds", "loss")  # of a trace's row, before its terms


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
        eta: seconds to go, estimated.
        picture: makes the image as it is now, 8-bit; nothing is computed until it is called.
        phase: the stretch at one size and one precision that the run is in, from 0. Losses of two
            phases are of two functions.
    """

    iteration: int
    iterations: int
    loss: float
    terms: dict[str, float]
    seconds: float
    share: float
    eta: float
    picture: Callable[[], Image.Image] = field(repr=False)
    phase: int = 0

    @classmethod
    def of(
        cls,
        row: dict[str, float],
        iterations: int,
        share: float,
        eta: float,
        picture: Callable[[], Image.Image],
        phase: int = 0,
    ) -> Step:
        """The step that a row of a ``Trace`` tells of, in a run of so many iterations."""
        terms = {name: value for name, value in row.items() if name not in _COLUMNS}
        iteration, seconds, loss = (row[name] for name in _COLUMNS)
        return cls(int(iteration), iterations, loss, terms, seconds, share, eta, picture, phase)

    @property
    def rate(self) -> float:
        """Iterations a second so far."""
        return self.iteration / self.seconds

    def __str__(self) -> str:
        return (
            f"iteration {self.iteration}/{self.iterations}  loss {self.loss:.4g}  "
            f"{rate_text(self.rate)}  {self.eta:.0f} s to go"
        )


def rate_text(rate: float) -> str:
    """Iterations a second; below a tenth, where two decimals say little, seconds an iteration."""
    return f"{1 / rate:.0f} s/it" if 0 < rate < 0.1 else f"{rate:.2f} it/s"
