"""One whole iteration of each engine, optimiser included, its history full; parity first.

pytest benchmarks/bench_iteration.py --benchmark-columns=median,iqr,rounds
"""

from functools import cache

import pytest

from stylebench.artwork import landscape, painting
from stylebench.bench.iterate import Walk
from stylebench.bench.proof import Proof
from stylebench.bench.timing import Contestant
from stylebench.engines import ENGINES
from stylebench.problem import pose
from stylebench.settings import Settings

SIZE = 256


@cache
def proof(device: str) -> Proof:
    return Proof(landscape(), painting(), Settings(weights="random", size=SIZE, device=device))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("engine", ENGINES)
def test_iteration(benchmark, timed, device, engine, precision):
    if precision not in ENGINES[engine].precisions:
        pytest.skip(f"{engine} does not compute in {precision}")
    benchmark.group = f"iteration {device} {SIZE} px {precision}"
    settings = Settings(
        weights="random", size=SIZE, device=device, engine=engine, precision=precision
    )
    problem = pose(landscape(), painting(), settings)
    walk = Walk(problem, settings)
    walk.settle()
    timed(
        device,
        Contestant(walk.advance, replays=walk.replays, per_sample=1),
        lambda: proof(device).checks(problem.engine, precision),
    )
