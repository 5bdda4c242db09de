"""The timing core, with clocks that say what the test wants."""

import subprocess
import sys

import pytest
import torch

from stylebench.bench.measure import interference
from stylebench.bench.measure.clocks import EventClock, WallClock, clock_for
from stylebench.bench.measure.interference import CpuMonitor, GpuMonitor
from stylebench.bench.measure.statistics import deciding, interval, spread, timing
from stylebench.bench.measure.timing import (
    Candidate,
    ImpossibleTime,
    LowerBound,
    Plan,
    measure_interleaved,
)
from stylebench.bench.records.record import State

CPU = torch.device("cpu")
EXACT = Plan(target=0.01, seconds=100, least=3, most=20, warm_seconds=100, shortest=0.1)


class Script:
    """A clock that runs the work and reads its times from a list; the last one repeats."""

    name = "script"

    def __init__(self, *times):
        self.times = list(times)

    def seconds(self, work):
        work()
        return self.times.pop(0) if len(self.times) > 1 else self.times[0]


class Calm:
    def disturbed(self, final=False):
        return False


def measured(run, clock, plan=EXACT, monitor=None):
    return measure_interleaved({"it": run}, CPU, plan, clock=clock, monitor=monitor or Calm())["it"]


def test_warm_up_goes_on_until_three_in_a_row_agree():
    found = measured(lambda n: None, Script(9.0, 5.0, 2.0, 1.0, 1.0, 1.05, 1.0))
    assert found.warmup == 6
    assert set(found.samples) == {1.0}


def test_warm_up_ends_when_its_time_is_up():
    plan = Plan(warm_seconds=7, seconds=1, least=3, shortest=0.1)
    assert measured(lambda n: None, Script(4.0, 2.0, 1.0, 3.0), plan).warmup == 3


def test_sampling_stops_when_the_interval_is_narrow():
    steady = measured(lambda n: None, Script(1.0))
    assert len(steady.samples) == 6  # the fewest that a 95 % interval can be told from
    noisy = measured(lambda n: None, Script(*[1.0] * 3, *[1.0, 2.0] * 30))
    assert len(noisy.samples) == EXACT.most
    assert noisy.spread > EXACT.target


def test_sampling_stops_when_the_time_is_up():
    plan = Plan(target=0.001, seconds=4.5, least=2, warm_seconds=0)
    assert len(measured(lambda n: None, Script(*[1.0, 1.5] * 20), plan).samples) == 4


def test_units_too_short_for_the_clock_are_batched():
    asked = []
    clock = Script(0.0)
    clock.seconds = lambda work: (work(), 0.01 * asked[-1])[1]
    found = measured(asked.append, clock)
    assert found.per_sample == 10
    assert asked[-1] == 10
    assert found.median == pytest.approx(0.01)


def test_launches_in_a_graph_are_repeated_until_the_clock_can_tell():
    """Twenty launches of 2 us would be little beside what replaying them costs the host."""
    asked = []
    clock = Script(0.0)
    clock.seconds = lambda work: (work(), 2e-6 * asked[-1])[1]
    plan = Plan(least=3, seconds=1, warm_seconds=1, shortest=5e-3)
    found = measured(Candidate(asked.append, multiple=20), clock, plan)
    assert asked[0] == 20
    assert {units % 20 for units in asked} == {0}
    assert found.per_sample == 2500


def test_contestants_take_turns():
    order = []
    runs = {name: lambda n, name=name: order.append(name) for name in "abc"}
    plan = Plan(least=4, most=4, warm_seconds=0, shortest=0.1)
    measure_interleaved(runs, CPU, plan, clock=Script(1.0), monitor=Calm())
    assert "".join(order[3:]) == "abc" * 4


class Each:
    """A clock that knows what it times: work that returns its seconds a unit."""

    name = "script"

    def seconds(self, work):
        return work()


def test_all_are_sampled_until_all_are_sure():
    noisy = iter([1.0, 1.5] * 50)
    runs = {"steady": lambda n: 1.0, "noisy": lambda n: next(noisy)}
    found = measure_interleaved(runs, CPU, EXACT, clock=Each(), monitor=Calm())
    assert [len(each.samples) for each in found.values()] == [EXACT.most, EXACT.most]


def test_together_they_take_no_more_than_each_may():
    noisy = iter([1.0, 1.5] * 500)
    runs = {"long": lambda n: 9.0, "noisy": lambda n: next(noisy)}
    plan = Plan(target=0.001, seconds=50, least=3, most=500, warm_seconds=0, shortest=0.1)
    found = measure_interleaved(runs, CPU, plan, clock=Each(), monitor=Calm())
    assert {len(each.samples) for each in found.values()} == {10}  # 100 s at 10.25 s a round


def test_the_time_is_up_before_the_samples_wanted_are_there():
    plan = Plan(seconds=4.5, least=15, warm_seconds=0)
    assert len(measured(lambda n: None, Script(1.0), plan).samples) == 5
    assert len(measured(lambda n: None, Script(9.0), plan).samples) == 3


def test_disturbed_samples_make_nothing_less_sure():
    class Alternating:
        calls = 0

        def disturbed(self, final=False):
            self.calls += 1
            return self.calls > 1 and self.calls % 4 == 1

    times = [1.0] * 3 + [1.0, 1.0, 1.0, 7.0] * 9
    found = measured(lambda n: None, Script(*times), monitor=Alternating())
    assert len(found.samples) == 7  # six that nothing disturbed
    assert found.disturbed == [3]


def test_disturbed_samples_are_kept_marked_and_left_out_of_the_median():
    class Third:
        verdicts = iter([False, False, None, True])

        def disturbed(self, final=False):
            return next(self.verdicts, False)

    times = [1.0] * 3 + [1.0, 7.0, 7.0] + [1.0] * 9
    found = measured(lambda n: None, Script(*times), monitor=Third())
    assert found.disturbed == [1, 2]  # the undecided one shares its successor's verdict
    assert found.samples[1] == 7.0
    assert found.median == 1.0
    assert found.spread == 0.0


def test_the_last_samples_are_judged_too():
    class Late:
        """It can tell nothing until it must; its first answer is about the warm-up."""

        def disturbed(self, final=False):
            return True if final else None

    found = measured(lambda n: None, Script(1.0), monitor=Late())
    assert found.disturbed == list(range(len(found.samples)))


def test_a_final_verdict_looks_further_back_where_its_span_is_too_short():
    readings = iter([(0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (1.01, 1.9, 1.0)])
    monitor = CpuMonitor(lambda: next(readings))
    assert monitor.disturbed() is False
    assert monitor.disturbed(final=True) is True


def test_a_final_verdict_is_given_on_however_little():
    readings = iter([(0.0, 0.0, 0.0), (0.01, 0.02, 0.0)])
    assert CpuMonitor(lambda: next(readings)).disturbed(final=True) is True


def test_a_gpu_has_its_final_verdict_at_once():
    hot = State(clock_mhz=1980, throttle=["SwPowerCap"])
    monitor = GpuMonitor(torch.device("cuda", 0), lambda _: hot)
    assert monitor.disturbed() is None
    assert monitor.disturbed(final=True) is True


def test_children_that_have_ended_are_not_others():
    before = interference._accounts()
    busy = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    subprocess.run([sys.executable, "-c", busy], check=True)
    after = interference._accounts()
    assert after[2] - before[2] >= 0.3


def test_where_most_samples_are_disturbed_all_decide():
    found = timing("script", [1.0, 2.0, 2.0], disturbed=[1, 2])
    assert found.median == 2.0
    assert deciding([1.0, 2.0, 2.0, 1.0], [1, 2]) == [1.0, 1.0]  # half is not most
    assert deciding([1.0, 2.0, 2.0], [1, 2]) == [1.0, 2.0, 2.0]


def test_a_time_below_its_lower_bound_is_an_error_that_names_both():
    bound = LowerBound.of(flops=2e9, flop_rate=1e9, moved=1e6, byte_rate=1e9)
    assert bound.seconds == 2.0
    with pytest.raises(
        ImpossibleTime, match=r"1 s, under its physical lower bound of 2 s: 2e\+09 FLOP at the"
    ):
        measured(Candidate(lambda n: None, bound), Script(1.0))
    assert measured(Candidate(lambda n: None, bound), Script(1.95)).median == 1.95


def test_memory_can_be_the_lower_bound():
    bound = LowerBound.of(flops=1.0, flop_rate=1e9, moved=3e9, byte_rate=1e9)
    assert bound.seconds == 3.0
    assert "bytes" in bound.why


def test_the_interval_of_the_median_is_the_binomial_one():
    assert interval([3.0, 1.0, 2.0]) == (1.0, 3.0)
    assert interval(range(100)) == (39, 60)  # order statistics 40 and 61, counted from 1
    wide = interval(range(2001))
    assert wide == (956, 1044)
    assert spread([1.0] * 9) == 0


def test_each_device_has_its_clock():
    assert isinstance(clock_for(CPU), WallClock)
    cuda = clock_for(torch.device("cuda", 0), replays=True)
    assert isinstance(cuda, EventClock)
    assert cuda.name == "cuda graph"


def test_a_wall_clock_waits_for_the_device_on_both_sides():
    seen = []
    WallClock(lambda: seen.append("wait")).seconds(lambda: seen.append("work"))
    assert seen == ["wait", "work", "wait"]


def test_others_on_the_processor_disturb():
    readings = iter([(0.0, 0.0, 0.0), (0.05, 5.0, 0.0), (1.0, 2.0, 1.9), (2.0, 4.0, 2.9)])
    monitor = CpuMonitor(lambda: next(readings))
    assert monitor.disturbed() is None  # too short to tell
    assert monitor.disturbed() is False  # 0.1 core for a second
    assert monitor.disturbed() is True  # a core and more


@pytest.mark.parametrize(
    ("states", "verdicts"),
    [
        ([State(clock_mhz=1980), State(clock_mhz=1800)], [False, True]),
        ([State(clock_mhz=1980), State(1980, throttle=["SwPowerCap"])], [False, True]),
        ([State(), State()], [False, False]),
    ],
)
def test_falling_clocks_and_throttling_disturb(monkeypatch, states, verdicts):
    monkeypatch.setattr("stylebench.bench.measure.interference._WINDOW", 0.0)
    readings = iter(states)
    monitor = GpuMonitor(torch.device("cuda", 0), lambda _: next(readings))
    assert [monitor.disturbed() for _ in states] == verdicts
