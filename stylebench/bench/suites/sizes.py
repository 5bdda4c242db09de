"""``sizes``: how an iteration's cost and memory grow with the picture, each engine alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from stylebench.bench.measure.timing import Plan
from stylebench.bench.records.record import Case
from stylebench.bench.suites.base import Bench, Job, contained
from stylebench.bench.workloads.iterations import Run, iterations_job
from stylebench.bench.workloads.precisions import chosen

_LONGEST = {"cpu": (256, 512, 1024, 2048), "cuda": (256, 512, 1024, 2048, 4096, 8192, 16384)}
_QUICK_LONGEST = {"cpu": (64, 128), "cuda": (256, 512, 1024)}
_PROVEN = {"cpu": 1024, "cuda": 2048}  # px, the largest that the fp64 oracle is asked for
_HISTORY = 10  # pairs; each is 24 bytes a pixel, so more would make this a benchmark of L-BFGS
_SPARE = 0.9  # of the free memory that a case may need


class Sizes:
    """Doubling sizes, fused in its own choice of precision and the reference."""

    name = "sizes"

    def jobs(self, bench: Bench) -> Iterator[Job]:
        """One job a size; what will not fit is not tried on a CPU, which would kill the process."""
        kind = bench.kind
        if not bench.options.quick:
            bench.plan = Plan(target=0.02, least=3, seconds=20.0)
        precision = chosen("fused", bench.device)
        runs = [
            Run("fused", precision, history=_HISTORY),
            Run("reference", "fp32", history=_HISTORY),
        ]
        longest = (_QUICK_LONGEST if bench.options.quick else _LONGEST)[kind]
        aspect = (1, 1) if kind == "cuda" else (4, 3)
        sizes = bench.sizes(*[(side, side * aspect[1] // aspect[0]) for side in longest])
        need = _Need()
        for size in sizes:
            scale = min(1.0, _PROVEN[kind] / max(size))
            proven = (round(size[0] * scale), round(size[1] * scale))
            job = iterations_job(bench, size, runs, alone=True, prove_at=proven)
            yield need.guarding(job) if kind == "cpu" else job


class _Need:
    """What each engine took a pixel at smaller sizes, so that a size can be refused beforehand."""

    def __init__(self) -> None:
        self._a_pixel: dict[object, float] = {}

    def guarding(self, job: Job) -> Job:
        """``job``, whose cases are refused where they would need more memory than is free."""

        def run(names: Collection[str]) -> Iterable[Case]:
            for name in names:
                refused = self._refused(job, name)
                yield from [refused] if refused else self._seen(job, name)

        return replace(job, run=run)

    def _refused(self, job: Job, name: str) -> Case | None:
        import psutil

        parameters = job.cases[name]
        needed = self._a_pixel.get(parameters["engine"], 0.0) * _pixels(parameters)
        free = psutil.virtual_memory().available
        if needed <= _SPARE * free:
            return None
        note = f"would need about {needed / 2**30:.1f} GiB of the {free / 2**30:.1f} GiB free"
        return Case(name, parameters, status="out of memory", note=note)

    def _seen(self, job: Job, name: str) -> Iterator[Case]:
        for case in contained([name], job.cases, job.run):
            if case.peak_bytes:
                engine = case.parameters["engine"]
                self._a_pixel[engine] = case.peak_bytes / _pixels(case.parameters)
            yield case


def _pixels(parameters: object) -> int:
    assert isinstance(parameters, dict)
    return int(parameters["width"]) * int(parameters["height"])


SUITE = Sizes()
