"""The timing core: warm up until stable, sample until sure, interleave, refuse the impossible."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from math import ceil

import torch

from stylebench.bench.measure.clocks import Clock, Watch, clock_for, watch_for
from stylebench.bench.measure.samples import Samples
from stylebench.bench.measure.statistics import deciding, spread, timing
from stylebench.bench.records.record import Timing

Run = Callable[[int], object]

_GRACE = 0.05  # by which a time may undercut its floor: the roof has a spread of its own
_FEWEST = 3  # samples, though the time be up: fewer have no spread
_MOST_UNITS = 10_000  # in a sample
_STABLE = 0.1  # last three warm-up samples within this of each other


class TooFast(ValueError):
    """A time below what the machine can physically do: whatever was timed, it was not the work."""


@dataclass(frozen=True)
class Floor:
    """The least time that a unit of work can take, and why.

    Attributes:
        seconds: a unit.
        why: what takes them, for the message.
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
    ) -> Floor:
        """The larger of the times for ``flops`` and for ``moved`` bytes, at rates a second."""
        arithmetic, memory = flops / flop_rate, moved / byte_rate
        if arithmetic >= memory:
            return cls(arithmetic, f"{flops:.3g} FLOP at the {flop_rate:.3g} FLOP/s measured here")
        return cls(memory, f"{moved:.3g} bytes at the {byte_rate:.3g} B/s measured here")

    def check(self, seconds: float, name: str = "a run") -> None:
        """Raise TooFast where ``seconds`` is below this floor by more than 5 %."""
        if seconds < (1 - _GRACE) * self.seconds:
            raise TooFast(
                f"{name} took {seconds:.3g} s, under its physical floor of {self.seconds:.3g} s: "
                f"{self.why}. The time is wrong, not fast"
            )


@dataclass(frozen=True)
class Plan:
    """How long to measure one contestant.

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
class Contestant:
    """Something to be timed.

    Attributes:
        run: does (on a GPU: launches) as many units of work as it is told.
        floor: that a unit cannot undercut.
        prepare: called before each sample, outside the clock: flushes a cache, say.
        replays: whether ``run`` replays a CUDA graph.
        per_sample: units a sample; None lets the plan's ``shortest`` decide.
        multiple: units come in multiples of this: the launches in a graph, say.
    """

    run: Run
    floor: Floor | None = None
    prepare: Callable[[], object] | None = None
    replays: bool = False
    per_sample: int | None = None
    multiple: int = 1
    samples: Samples = field(default_factory=Samples, init=False)
    warmed: int = field(default=0, init=False)
    spent: float = field(default=0.0, init=False)

    def sample(self, clock: Clock, units: int) -> float:
        """Seconds a unit."""
        if self.prepare:
            self.prepare()
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
        """Whether it is sure enough, or has had its time."""
        count = len(self.samples.seconds)
        if count >= plan.most:
            return True
        if count < min(_FEWEST, plan.least):
            return False
        return self.spent >= plan.seconds or self._sure(plan)

    def _sure(self, plan: Plan) -> bool:
        """By the samples that will decide, those that nothing disturbed."""
        judged = deciding(self.samples.seconds, self.samples.disturbed)
        return len(judged) >= max(6, plan.least) and spread(judged) <= plan.target


def measure(
    run: Run | Contestant,
    device: torch.device,
    plan: Plan | None = None,
    *,
    floor: Floor | None = None,
) -> Timing:
    """Time one thing; see ``measure_interleaved``."""
    contestant = run if isinstance(run, Contestant) else Contestant(run, floor)
    return measure_interleaved({"it": contestant}, device, plan)["it"]


def measure_interleaved(
    runs: Mapping[str, Run | Contestant],
    device: torch.device,
    plan: Plan | None = None,
    *,
    clock: Clock | None = None,
    watch: Watch | None = None,
) -> dict[str, Timing]:
    """Time several things in turn, a sample of each a round, so that drift hits all alike.

    All have as many samples as the one that takes the most to be sure.

    Args:
        runs: name -> what does the given number of units of work.
        device: that the work is on; it chooses the clock.
        plan: how sure to be, and how long to try.
        clock: in place of the device's.
        watch: in place of what watches the device for disturbances.

    Returns:
        Name -> timing, seconds a unit, every sample kept.

    Raises:
        TooFast: a median below its floor.
    """
    plan = plan or Plan()
    watch = watch or watch_for(device)
    contestants = {
        name: run if isinstance(run, Contestant) else Contestant(run) for name, run in runs.items()
    }
    clocks = {name: clock or clock_for(device, each.replays) for name, each in contestants.items()}
    for name, each in contestants.items():
        each.warm_up(clocks[name], plan)
    watch.disturbed()
    while not _enough(contestants.values(), plan):
        for name, each in contestants.items():
            each.take(clocks[name])
        _judge(contestants, watch.disturbed())
    _judge(contestants, watch.disturbed(final=True))
    return {name: _result(name, each, clocks[name]) for name, each in contestants.items()}


def _enough(contestants: Collection[Contestant], plan: Plan) -> bool:
    """Whether all are done, or have had together what time they may take each.

    None stops by itself: what is sampled after the others is not interleaved with them.
    """
    if all(each.done(plan) for each in contestants):
        return True
    rounds = min(len(each.samples.seconds) for each in contestants)
    spent = sum(each.spent for each in contestants)
    return rounds >= min(_FEWEST, plan.least) and spent >= plan.seconds * len(contestants)


def _judge(contestants: Mapping[str, Contestant], disturbed: bool | None) -> None:
    for each in contestants.values():
        each.samples.mark(disturbed)


def _result(name: str, each: Contestant, clock: Clock) -> Timing:
    taken = each.samples
    found = timing(clock.name, taken.seconds, taken.disturbed, each.per_sample or 1, each.warmed)
    if each.floor:
        each.floor.check(found.median, name)
    return found
