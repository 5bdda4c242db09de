"""The timing core: warm up until stable, sample until sure, interleave, refuse the impossible."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import torch

from stylebench.bench.measure.clocks import Clock, clock_for
from stylebench.bench.measure.interference import InterferenceMonitor, Samples, monitor_for
from stylebench.bench.measure.statistics import deciding, spread, timing
from stylebench.bench.records.record import Timing

Units = Callable[[int], object]  # does as many units of work as it is told

_GRACE = 0.05  # by which a time may undercut its lower bound: the roofline has its own spread
_FEWEST = 3  # samples, even when the time is up: fewer have no spread
_MOST_UNITS = 10_000  # in a sample
_STABLE = 0.1  # last three warm-up samples within this of each other


class ImpossibleTime(ValueError):
    """A time below the physical lower bound: something other than the work was timed."""


@dataclass(frozen=True)
class LowerBound:
    """The least time that a unit of work can take, and why.

    Attributes:
        seconds: a unit.
        why: the operations or bytes behind it, for the message.
    """

    seconds: float
    why: str

    @classmethod
    def of(
        cls,
        flops: float = 0.0,
        flop_rate: float = float("inf"),
        moved: float = 0.0,
        byte_rate: float = float("inf"),
    ) -> LowerBound:
        """The larger of the times for ``flops`` and for ``moved`` bytes, at rates a second."""
        arithmetic, memory = flops / flop_rate, moved / byte_rate
        if arithmetic >= memory:
            return cls(arithmetic, f"{flops:.3g} FLOP at the {flop_rate:.3g} FLOP/s measured here")
        return cls(memory, f"{moved:.3g} bytes at the {byte_rate:.3g} B/s measured here")

    def check(self, seconds: float, name: str = "a run") -> None:
        """Raise ImpossibleTime where ``seconds`` is below this bound by more than 5 %."""
        if seconds < (1 - _GRACE) * self.seconds:
            raise ImpossibleTime(
                f"{name} took {seconds:.3g} s, under its physical lower bound of "
                f"{self.seconds:.3g} s: {self.why}. The time is wrong, not fast"
            )


@dataclass(frozen=True)
class Plan:
    """Duration and precision of a measurement.

    Attributes:
        target: relative half-width of the median's 95 % interval that is sure enough.
        seconds: of sampling after which to stop in any case, with three samples at least.
        least: samples, however sure, if there is time for them.
        most: samples, however unsure.
        warm_seconds: of warm-up after which to start in any case.
        shortest: a sample; as many units go into one as it takes, s.
    """

    target: float = 0.01
    seconds: float = 20.0
    least: int = 7
    most: int = 500
    warm_seconds: float = 10.0
    shortest: float = 5e-3


QUICK = Plan(target=0.05, seconds=2.0, least=3, most=50, warm_seconds=2.0)


@dataclass
class Candidate:
    """Something to be timed.

    Attributes:
        run: does (on a GPU: launches) as many units of work as it is told.
        lower_bound: of a unit's time.
        replays: whether ``run`` replays a CUDA graph.
        per_sample: units a sample; None lets the plan's ``shortest`` decide.
        multiple: units come in multiples of this number: the launches in a graph.
    """

    run: Units
    lower_bound: LowerBound | None = None
    replays: bool = False
    per_sample: int | None = None
    multiple: int = 1
    samples: Samples = field(default_factory=Samples, init=False)
    warmed: int = field(default=0, init=False)
    spent: float = field(default=0.0, init=False)

    @classmethod
    def repeating(cls, work: Callable[[], object], **more: Any) -> Candidate:
        """A candidate whose unit is one call of ``work``; ``more`` are its other attributes."""

        def run(units: int) -> None:
            for _ in range(units):
                work()

        return cls(run, **more)

    def sample(self, clock: Clock, units: int) -> float:
        """Seconds a unit."""
        return clock.seconds(lambda: self.run(units)) / units

    def warm_up(self, clock: Clock, plan: Plan) -> None:
        """Run until three times in a row agree or the time is up; settle the batch."""
        recent: list[float] = []
        spent = 0.0
        units = self.per_sample or self.multiple
        while True:
            recent = [*recent[-2:], self.sample(clock, units)]
            spent += recent[-1] * units
            self.warmed += units
            if self.per_sample is None and units == self.multiple:
                units = self._batch(recent[-1], plan)
                if units > self.multiple:  # a first time is no guide: the next ones decide
                    recent = []
                    continue
            stable = len(recent) == 3 and max(recent) <= (1 + _STABLE) * min(recent)
            if stable or spent >= plan.warm_seconds:
                break
        if self.per_sample is None:
            self.per_sample = self._batch(min(recent), plan)

    def _batch(self, seconds: float, plan: Plan) -> int:
        """Units that a sample needs to last long enough, where one takes ``seconds``."""
        wanted = min(_MOST_UNITS, ceil(plan.shortest / max(seconds, 1e-9)))
        return -(-wanted // self.multiple) * self.multiple

    def take(self, clock: Clock) -> None:
        """Add one sample."""
        units = self.per_sample or 1
        self.samples.seconds.append(self.sample(clock, units))
        self.spent += self.samples.seconds[-1] * units

    def done(self, plan: Plan) -> bool:
        """Whether the median is sure enough, or the time is up."""
        count = len(self.samples.seconds)
        if count >= plan.most:
            return True
        if count < min(_FEWEST, plan.least):
            return False
        return self.spent >= plan.seconds or self._sure(plan)

    def _sure(self, plan: Plan) -> bool:
        """Judged by the undisturbed samples alone, which the median is of."""
        judged = deciding(self.samples.seconds, self.samples.disturbed)
        return len(judged) >= max(6, plan.least) and spread(judged) <= plan.target

    def result(self, name: str, clock: Clock) -> Timing:
        """The timing of all samples; raises ImpossibleTime below the lower bound."""
        taken, units = self.samples, self.per_sample or 1
        summed = timing(clock.name, taken.seconds, taken.disturbed, units, self.warmed)
        if self.lower_bound:
            self.lower_bound.check(summed.median, name)
        return summed


def measure(
    run: Units | Candidate,
    device: torch.device,
    plan: Plan | None = None,
) -> Timing:
    """Time one candidate; see ``measure_interleaved``."""
    return measure_interleaved({"it": run}, device, plan)["it"]


def measure_interleaved(
    runs: Mapping[str, Units | Candidate],
    device: torch.device,
    plan: Plan | None = None,
    *,
    clock: Clock | None = None,
    monitor: InterferenceMonitor | None = None,
) -> dict[str, Timing]:
    """Time several candidates in turn, a sample of each a round, so that drift hits all alike.

    All get as many samples as the one that needs the most.

    Args:
        runs: name -> candidate, or function that does the given number of units of work.
        device: of the work; it decides the clock.
        plan: how sure to be, and how long to try.
        clock: in place of the device's own.
        monitor: in place of the device's own.

    Returns:
        Name -> timing, seconds a unit, every sample kept.

    Raises:
        ImpossibleTime: a median below its lower bound.
    """
    plan = plan or Plan()
    monitor = monitor or monitor_for(device)
    candidates = {
        name: run if isinstance(run, Candidate) else Candidate(run) for name, run in runs.items()
    }
    clocks = {name: clock or clock_for(device, c.replays) for name, c in candidates.items()}
    for name, candidate in candidates.items():
        candidate.warm_up(clocks[name], plan)
    monitor.disturbed()
    while not _enough(candidates.values(), plan):
        for name, candidate in candidates.items():
            candidate.take(clocks[name])
        _flag(candidates.values(), monitor.disturbed())
    _flag(candidates.values(), monitor.disturbed(final=True))
    return {name: c.result(name, clocks[name]) for name, c in candidates.items()}


def _enough(candidates: Collection[Candidate], plan: Plan) -> bool:
    """Whether all are done, or have taken together the time that each may take.

    None stops by itself: samples taken after the others have stopped are not interleaved.
    """
    if all(candidate.done(plan) for candidate in candidates):
        return True
    rounds = min(len(candidate.samples.seconds) for candidate in candidates)
    spent = sum(candidate.spent for candidate in candidates)
    return rounds >= min(_FEWEST, plan.least) and spent >= plan.seconds * len(candidates)


def _flag(candidates: Collection[Candidate], disturbed: bool | None) -> None:
    for candidate in candidates:
        candidate.samples.flag(disturbed)
