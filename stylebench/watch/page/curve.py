"""The loss curve of a page: bounded in points, however long the run is."""

from __future__ import annotations

from math import isfinite

from stylebench.watch.step import Step

_MOST = 2000  # points, more than a page has pixels for

Point = list[float | int | None]


class Curve:
    """Points of every so many steps, each a list: iteration, phase, loss, and every term.

    When there are too many, every second one is dropped, and from then on every second one taken.

    Attributes:
        names: of the terms, in the order of a point's.
        points: in order. One may lack the last terms, which came up later.
        thinned: how often points were dropped.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.points: list[Point] = []
        self.thinned = 0
        self._seen = 0

    def add(self, step: Step) -> Point:
        """Take a step, where it is its turn; return its point in any case."""
        self.names += [name for name in step.terms if name not in self.names]
        values = (step.loss, *(step.terms.get(name) for name in self.names))
        point: Point = [step.iteration, step.phase, *map(_as_json, values)]
        if self._seen % 2**self.thinned == 0:
            self.points.append(point)
        self._seen += 1
        if len(self.points) > _MOST:
            self.thinned += 1
            del self.points[1::2]
        return point


def _as_json(value: float | None) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if value is not None and isfinite(value) else None
