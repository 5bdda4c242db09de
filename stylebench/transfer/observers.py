"""The observers of a run, and the steps that they are told of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import gcd
from typing import TypeAlias

from PIL import Image

from stylebench.transfer.checkpoint import CheckpointConfig
from stylebench.transfer.problem import Problem

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
    """

    iteration: int
    iterations: int
    loss: float
    terms: dict[str, float]
    seconds: float
    share: float
    eta: float
    picture: Callable[[], Image.Image] = field(repr=False)

    @classmethod
    def of(
        cls,
        row: dict[str, float],
        iterations: int,
        share: float,
        eta: float,
        picture: Callable[[], Image.Image],
    ) -> Step:
        """The step that a row of a ``Trace`` tells of, in a run of so many iterations."""
        terms = {name: value for name, value in row.items() if name not in _COLUMNS}
        iteration, seconds, loss = (row[name] for name in _COLUMNS)
        return cls(int(iteration), iterations, loss, terms, seconds, share, eta, picture)

    @property
    def rate(self) -> float:
        """Iterations a second so far."""
        return self.iteration / self.seconds

    def __str__(self) -> str:
        return (
            f"iteration {self.iteration}/{self.iterations}  loss {self.loss:.4g}  "
            f"{self.rate:.2f} it/s  {self.eta:.0f} s to go"
        )


Callback: TypeAlias = Callable[[Step], object]


@dataclass(frozen=True)
class Observers:
    """Everyone who is told of a run.

    Attributes:
        callback: called with a ``Step`` for every iteration.
        on_start: called with the problem of every phase before it is run.
        sync_every: ``callback`` sees the image at multiples of so many iterations; 0: wherever.
        checkpoints: where checkpoints are written, if anywhere.
    """

    callback: Callback | None = None
    on_start: Callable[[Problem], object] | None = None
    sync_every: int = 0
    checkpoints: CheckpointConfig | None = None

    @property
    def stops(self) -> int:
        """The device has to be waited for at multiples of so many iterations; 0: nowhere."""
        return gcd(self.sync_every, self.checkpoints.every if self.checkpoints else 0)
