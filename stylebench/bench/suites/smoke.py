"""``smoke``: one tiny iteration of each engine that needs no compiler, in seconds."""

from __future__ import annotations

from collections.abc import Iterator

from stylebench.bench.measure.timing import Plan
from stylebench.bench.suites.base import Bench, Job
from stylebench.bench.suites.engine_cases import EngineRun, engine_job
from stylebench.bench.workloads.precisions import chosen

_SIZE = (64, 48)
_BRIEF = Plan(target=0.5, seconds=0.2, least=3, most=10, warm_seconds=0.2)


def jobs(bench: Bench) -> Iterator[Job]:
    """Reference in fp32, fused engine too, or on a GPU in its own choice there, 64 x 48 px.

    One job, both engines interleaved.
    """
    bench.plan = bench.roofline.plan = _BRIEF
    bench.roofline.quick = True
    precision = chosen("fused", bench.device) if bench.kind == "cuda" else "fp32"
    for size in bench.sizes(_SIZE):
        runs = [EngineRun("reference", "fp32"), EngineRun("fused", precision)]
        yield engine_job(bench, size, runs)
