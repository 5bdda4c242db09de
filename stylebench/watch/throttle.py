"""A limit to how often something is shown, and to the share of a run's time that it takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from time import perf_counter


class Throttle:
    """Says when the next showing is due.

    Args:
        seconds: between two of them, at least.
        share: of all the time, that they take at most.
    """

    def __init__(self, seconds: float = 0.4, share: float = 0.05) -> None:
        self._seconds, self._share = seconds, share
        self._next = -inf

    def due(self) -> bool:
        """Whether it is time for the next."""
        return perf_counter() >= self._next

    @contextmanager
    def spending(self) -> Iterator[None]:
        """A block that shows; the longer it takes, the later the next is due."""
        began = perf_counter()
        yield
        ended = perf_counter()
        self._next = ended + max(self._seconds, (ended - began) / self._share)
