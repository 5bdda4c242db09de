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
_TOGETHER = 2**21  # pixels; a dozen histories of larger images do not fit into one memory


def jobs(bench: Bench) -> Iterator[Job]:
    """Engines x precisions x sizes; at the first size also a short history, and Adam.

    On a CPU one job a size, so that all engines meet the same machine.

    A GPU may be lent for minutes, and a job that is cut short leaves nothing. So there the first
    job of a size is what everybody asks for, the reference and the fused engine as a user gets
    them, and the others are of one precision each; those of the compiled engine, which takes
    minutes to compile, come last.
    """
    table = _QUICK_SIZES if bench.options.quick else _SIZES
    sizes = bench.sizes(*table[bench.kind])
    make = _on_a_gpu if bench.kind == "cuda" else _on_a_cpu
    for size, runs in make(bench, sizes):
        yield engine_job(bench, size, runs, alone=size[0] * size[1] > _TOGETHER)


_Group = tuple[tuple[int, int], list[EngineRun]]


def _on_a_cpu(bench: Bench, sizes: list[tuple[int, int]]) -> Iterator[_Group]:
    for size in sizes:
        runs = [EngineRun(e, precision) for e in _ENGINES for precision in bench.precisions(e)]
        runs += _others(bench) * (size == sizes[0])
        yield size, [*runs, EngineRun("fused", "fp32-direct")]


def _on_a_gpu(bench: Bench, sizes: list[tuple[int, int]]) -> Iterator[_Group]:
    best = chosen("fused", bench.device)
    headline = [EngineRun("reference", "fp32"), EngineRun("fused", best)]
    precisions = dict.fromkeys([best, *(p for e in _ENGINES for p in bench.precisions(e))])
    for size in sizes:
        yield size, headline
        for precision in precisions:
            runs = [
                run
                for engine in _ENGINES
                if engine != "compiled" and precision in bench.precisions(engine)
                if (run := EngineRun(engine, precision)) not in headline
            ]
            runs += _others(bench) * (size == sizes[0] and precision == best)
            if runs:
                yield size, runs
    for size in sizes:
        for precision in precisions:
            if precision in bench.precisions("compiled"):
                yield size, [EngineRun("compiled", precision)]


def _others(bench: Bench) -> list[EngineRun]:
    best = chosen("fused", bench.device)
    return [
        EngineRun("fused", best, history=_SHORT_HISTORY),
        EngineRun("fused", best, optimizer="adam"),
    ]
