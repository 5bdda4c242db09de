"""``iteration``: one iteration of every engine at every precision and size, side by side."""

from __future__ import annotations

from collections.abc import Iterator

from stylebench.bench.iterations import Run, iterations_job
from stylebench.bench.suite import Bench, Job

_SIZES = {"cpu": [(512, 384), (256, 192)], "cuda": [(512, 512), (1024, 1024), (2048, 2048)]}
_QUICK_SIZES = {"cpu": [(128, 96)], "cuda": [(512, 512)]}
_ENGINES = ("reference", "plain", "compiled", "fused")


class Iteration:
    """Engines x precisions x sizes; at the first size also short histories and Adam."""

    name = "iteration"

    def jobs(self, bench: Bench) -> Iterator[Job]:
        """One job a size, so that all engines meet the same machine."""
        table = _QUICK_SIZES if bench.options.quick else _SIZES
        sizes = bench.sizes(*table.get(bench.device.type, table["cpu"]))
        runs = [
            Run(engine, precision) for engine in _ENGINES for precision in bench.precisions(engine)
        ]
        best = bench.precisions("fused")[-1]
        others = [Run("fused", best, history=20), Run("fused", best, optimizer="adam")]
        for index, size in enumerate(sizes):
            yield iterations_job(bench, size, runs + others * (index == 0))


SUITE = Iteration()
