"""The observers of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import gcd
from typing import TypeAlias

from stylebench.transfer.checkpoint import CheckpointConfig
from stylebench.transfer.problem import Problem
from stylebench.watch.step import Step

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
