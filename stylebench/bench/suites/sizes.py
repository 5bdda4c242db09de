"""``sizes``: how cost and memory of an iteration grow with the picture, whole and in tiles."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from stylebench.bench.machine.probe import INSTALL
from stylebench.bench.measure.memory import free_memory
from stylebench.bench.measure.timing import Plan
from stylebench.bench.records.record import Case
from stylebench.bench.suites.base import Bench, Job, Parameters, isolate
from stylebench.bench.suites.engine_cases import EngineRun, engine_job
from stylebench.bench.workloads.precisions import chosen
from stylebench.model.tiles import BANDS

_LONGEST = {"cpu": (256, 512, 1024, 2048, 4096), "cuda": (256, 512, 1024, 2048, 4096, 8192, 16384)}
_QUICK_LONGEST = {"cpu": (64, 128), "cuda": (256, 512, 1024)}
_ROWS, _QUICK_ROWS = 256, 32  # of a tile; a picture with no more of them is whole
_PROVEN = {"cpu": 1024, "cuda": 2048}  # px, the longest side of the fp64 oracle
_HISTORY = 10  # pairs; each is 24 bytes a pixel, so more would make this a benchmark of L-BFGS
_SPARE = 0.9  # of the free memory that a case may need


def jobs(bench: Bench) -> Iterator[Job]:
    """Doubling sizes: fused in its own choice of precision, whole and in tiles, and the reference.

    One job a size; on a CPU, a case too large for its memory would end the process.

    Raises:
        ValueError: on a CPU whose free memory cannot be read.
    """
    kind = bench.kind
    if kind == "cpu" and free_memory(bench.device) is None:
        raise ValueError(f"the suite 'sizes' needs psutil to tell the free memory: {INSTALL}")
    if not bench.options.quick:
        bench.plan = Plan(target=0.02, least=3, seconds=20.0)
    precision = chosen("fused", bench.device)
    fused = EngineRun("fused", precision, history=_HISTORY)
    rows = _QUICK_ROWS if bench.options.quick else _ROWS
    tiled = replace(fused, tile=f"{BANDS}{rows}")
    reference = EngineRun("reference", "fp32", history=_HISTORY)
    longest = (_QUICK_LONGEST if bench.options.quick else _LONGEST)[kind]
    aspect = (1, 1) if kind == "cuda" else (4, 3)
    sizes = bench.sizes(*[(side, side * aspect[1] // aspect[0]) for side in longest])
    need = _Need(bench.device)
    for size in sizes:
        scale = min(1.0, _PROVEN[kind] / max(size))
        proven = (round(size[0] * scale), round(size[1] * scale))
        runs = [fused, tiled, reference] if size[1] > rows else [fused, reference]
        job = engine_job(bench, size, runs, alone=True, prove_at=proven)
        yield need.guarding(job) if kind == "cpu" else job


class _Need:
    """Memory that an engine, whole or in tiles, took a pixel at smaller sizes; refuses the rest."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._a_pixel: dict[object, float] = {}

    def guarding(self, job: Job) -> Job:
        """``job``, whose cases are refused where they would need more memory than is free."""

        def run(names: Collection[str]) -> Iterator[Case]:
            for name in names:
                refused = self._refused(name, job.cases[name])
                yield from [refused] if refused else self._measured(job, name)

        return replace(job, run=run)

    def _refused(self, name: str, parameters: Parameters) -> Case | None:
        needed = self._a_pixel.get(_way(parameters), 0.0) * _pixels(parameters)
        free = free_memory(self._device) or 0
        if needed <= _SPARE * free:
            return None
        note = f"would need about {needed / 2**30:.1f} GiB of the {free / 2**30:.1f} GiB free"
        return Case(name, parameters, status="out of memory", note=note)

    def _measured(self, job: Job, name: str) -> Iterator[Case]:
        for case in isolate(job.cases, job.run, [name]):
            if case.peak_bytes:
                self._a_pixel[_way(case.parameters)] = case.peak_bytes / _pixels(case.parameters)
            yield case


def _way(parameters: Mapping[str, Any]) -> object:
    """The engine, and its tiles if there are any."""
    return parameters["engine"], parameters.get("tile")


def _pixels(parameters: Mapping[str, Any]) -> int:
    return int(parameters["width"]) * int(parameters["height"])
