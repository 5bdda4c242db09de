"""Formulations of a task, timed in turn: on GPUs cold, and right behind what writes their input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median

import torch
from torch import Tensor

from stylebench.bench.measure.graphs import captured
from stylebench.bench.measure.statistics import deciding, timing
from stylebench.bench.measure.timing import Candidate, LowerBound, Plan, measure_interleaved
from stylebench.bench.records.record import Timing
from stylebench.bench.workloads.tasks import Formulation, Task, copies

_CACHES = 3  # times the L2 cache that is walked through before an operand comes again
_IN_GRAPH = 20  # launches in a graph, at least: replaying it costs as much as a small kernel


def time_task(
    task: Task,
    formulations: Mapping[str, Formulation],
    device: torch.device,
    plan: Plan,
    lower_bound: LowerBound | None = None,
) -> dict[str, Timing]:
    """Seconds of a launch of each formulation; on a GPU with operands that no cache holds.

    Raises:
        ImpossibleTime: a median below ``lower_bound``.
    """
    candidates = {
        name: candidate(run, task, device, lower_bound) for name, run in formulations.items()
    }
    return measure_interleaved(candidates, device, plan)


def time_in_situ(
    task: Task, formulations: Mapping[str, Formulation], device: torch.device, plan: Plan
) -> dict[str, Timing]:
    """Seconds of a launch right behind the kernel that writes its first operand, on a GPU.

    That kernel's own time, a copy's, is measured in turn with it and taken off. A formulation that
    adds nothing to it that could be measured has no entry.
    """
    operand, source = task.operands[0], task.operands[0].clone()

    def write() -> Tensor:
        return operand.copy_(source)

    def behind(run: Formulation) -> Callable[[], object]:
        return lambda: (write(), run(*task.operands))

    works: dict[str, Callable[[], object]] = {name: behind(f) for name, f in formulations.items()}
    candidates = {
        name: _launches([work] * _IN_GRAPH, device) for name, work in {**works, "": write}.items()
    }
    timings = measure_interleaved(candidates, device, plan)
    writing = timings.pop("")
    rest = {name: beyond(writing, both) for name, both in timings.items()}
    return {name: alone for name, alone in rest.items() if alone is not None}


def beyond(less: Timing, more: Timing) -> Timing | None:
    """The time of ``more`` beyond ``less``, by samples taken in turn; None where there is none."""
    samples = [b - a for a, b in zip(less.samples, more.samples, strict=True)]
    disturbed = {*less.disturbed, *more.disturbed}
    if median(deciding(samples, list(disturbed))) <= 0:
        return None
    return timing(more.clock, samples, list(disturbed), more.per_sample, more.warmup)


def candidate(
    run: Formulation, task: Task, device: torch.device, lower_bound: LowerBound | None = None
) -> Candidate:
    """``run`` on the task's operands; on a GPU on copies in turn, more than its L2 cache holds."""
    if device.type != "cuda":
        return Candidate(_repeated(lambda: run(*task.operands)), lower_bound)
    l2 = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0)
    sets = copies(task.operands, _CACHES * l2)
    works = [_applied(run, operands) for operands in sets]
    launches = _launches(works * -(-_IN_GRAPH // len(works)), device)
    launches.lower_bound = lower_bound
    return launches


def _launches(works: list[Callable[[], object]], device: torch.device) -> Candidate:
    """The works in order as one captured graph, or one by one where they cannot be captured."""

    def all_of_them() -> None:
        for work in works:
            work()

    graph = captured(all_of_them, device)
    replay = graph.replay if graph else all_of_them

    def run(units: int) -> None:
        for _ in range(-(-units // len(works))):
            replay()

    return Candidate(run, replays=graph is not None, multiple=len(works))


def _applied(run: Formulation, operands: tuple[Tensor, ...]) -> Callable[[], object]:
    return lambda: run(*operands)


def _repeated(run: Callable[[], object]) -> Callable[[int], None]:
    def repeat(times: int) -> None:
        for _ in range(times):
            run()

    return repeat
