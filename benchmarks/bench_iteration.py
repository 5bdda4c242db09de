"""One whole iteration of each engine, optimizer included, its history full; parity first.

pytest benchmarks/bench_iteration.py --benchmark-columns=median,iqr,rounds
"""

from functools import cache

import pytest

from stylebench.bench.measure.timing import Candidate
from stylebench.bench.workloads.parity_gate import ParityGate
from stylebench.bench.workloads.timed_run import TimedRun
from stylebench.engines import ENGINES
from stylebench.image.examples import example
from stylebench.transfer.inputs import Inputs
from stylebench.transfer.prepare import load_inputs
from stylebench.transfer.problem import build_problem
from stylebench.transfer.settings import Settings

SIZE = 256


def inputs(settings: Settings) -> Inputs:
    return load_inputs(example("content", 256, 192), example("style", 256, 192), settings)


@cache
def gate(device: str) -> ParityGate:
    settings = Settings(weights="original", size=SIZE, device=device)
    return ParityGate(inputs(settings), settings)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("engine", ENGINES)
def test_iteration(benchmark, timed, device, engine, precision):
    if precision not in ENGINES[engine].precisions:
        pytest.skip(f"{engine} does not compute in {precision}")
    benchmark.group = f"iteration {device} {SIZE} px {precision}"
    settings = Settings(
        weights="original", size=SIZE, device=device, engine=engine, precision=precision
    )
    problem = build_problem(inputs(settings), settings)
    run = TimedRun(problem, settings)
    run.settle()
    timed(
        device,
        Candidate(run.advance, replays=run.replays, per_sample=1),
        lambda: gate(device).checks(problem.engine, precision),
    )
