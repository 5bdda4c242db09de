"""``iteration``: one iteration of every engine at every precision and size, side by side."""

from __future__ import annotations

from collections.abc import Iterator

from stylebench.bench.suites.base import Bench, Job
from stylebench.bench.suites.engine_cases import EngineRun, engine_job
from stylebench.bench.workloads.precisions import chosen

_SIZES = {"cpu": [(512, 384), (256, 192)], "cuda": [(512, 512), (1024, 1024), (2048, 2048)]}
_QUICK_SIZES = {"cpu": [(128, 96)], "cuda": [(512, 512)]}
_ENGINES = ("reference", "eager", "compiled", "fused")
_SHORT_HISTORY = 20  # pairs
_SEPARATE = (("reference", "eager", "fused"), ("compiled",))
_TOGETHER = 2**21  # pixels; a dozen histories of larger images do not fit into one memory


def jobs(bench: Bench) -> Iterator[Job]:
    """Engines x precisions x sizes; at the first size also a short history, and Adam.

    One job a size, so that all engines meet the same machine; two on a GPU.

    There the compiled engine has its own: compiling takes minutes of a loan that may end at any
    time, and a job that is cut short leaves nothing.
    """
    table = _QUICK_SIZES if bench.options.quick else _SIZES
    best = chosen("fused", bench.device)
    others = [
        EngineRun("fused", best, history=_SHORT_HISTORY),
        EngineRun("fused", best, optimizer="adam"),
    ]
    for index, size in enumerate(bench.sizes(*table[bench.kind])):
        alone = size[0] * size[1] > _TOGETHER
        for engines in _SEPARATE if bench.kind == "cuda" else (_ENGINES,):
            runs = [EngineRun(e, precision) for e in engines for precision in bench.precisions(e)]
            runs += others * (index == 0 and "fused" in engines)
            runs += [EngineRun("fused", "fp32-direct")] * (bench.kind == "cpu")
            yield engine_job(bench, size, runs, alone=alone)
