"""One whole iteration of each engine, optimizer included, its history full; parity first.

pytest benchmarks/bench_iteration.py --benchmark-columns=median,iqr,rounds
"""

from functools import cache

import pytest

from stylebench.bench.measure.timing import Candidate
from stylebench.bench.workloads.parity_gate import ParityGate
from stylebench.bench.workloads.timed_run import TimedRun
from stylebench.engines import ENGINES
from stylebench.image.synthetic import landscape, painting
from stylebench.transfer.inputs import load_inputs
from stylebench.transfer.problem import build_problem
from stylebench.transfer.settings import Settings

SIZE = 256


@cache
def gate(device: str) -> ParityGate:
    settings = Settings(weights="random", size=SIZE, device=device)
    return ParityGate(load_inputs(landscape(), painting(), settings), settings)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("engine", ENGINES)
def test_iteration(benchmark, timed, device, engine, precision):
    if precision not in ENGINES[engine].precisions:
        pytest.skip(f"{engine} does not compute in {precision}")
    benchmark.group = f"iteration {device} {SIZE} px {precision}"
    settings = Settings(
        weights="random", size=SIZE, device=device, engine=engine, precision=precision
    )
    problem = build_problem(load_inputs(landscape(), painting(), settings), settings)
    run = TimedRun(problem, settings)
    run.settle()
    timed(
        device,
        Candidate(run.advance, replays=run.replays, per_sample=1),
        lambda: gate(device).checks(problem.engine, precision),
    )
