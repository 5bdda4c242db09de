"""Whole iterations, timed side by side: what the suites about engines share."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch

from stylebench.bench.measure.clocks import synchronize
from stylebench.bench.measure.memory import out_of_memory, peak_memory, release
from stylebench.bench.measure.timing import Contestant, measure_interleaved
from stylebench.bench.records.record import Case, Check, Parity, Setup, Timing
from stylebench.bench.suites.base import (
    Bench,
    Job,
    Parameters,
    attempt,
    contained,
    each_case,
    remarks,
    spared,
)
from stylebench.bench.workloads.breakdown import parts
from stylebench.bench.workloads.lower_bound import iteration_floor, iteration_flops
from stylebench.bench.workloads.parity_gate import ORACLE, Proof, finite, oracle_fits, passed
from stylebench.bench.workloads.timed_run import QUICK_PAIRS, Walk
from stylebench.engines import Engine
from stylebench.image.load import ImageSource
from stylebench.transfer.problem import Problem, pose
from stylebench.transfer.settings import Settings


@dataclass(frozen=True)
class Run:
    """One way to run an iteration.

    Attributes:
        engine: as ``Settings.engine``.
        precision: as ``Settings.precision``.
        optimizer: as ``Settings.optimizer``.
        history: as ``Settings.history``.
    """

    engine: str
    precision: str
    optimizer: str = "lbfgs"
    history: int = 20

    def name(self, width: int, height: int) -> str:
        """``fused fp32 512x384``, with what is not usual behind it."""
        more = f" {self.optimizer}" if self.optimizer != "lbfgs" else ""
        more += f" history {self.history}" if self.history != 20 else ""
        return f"{self.engine} {self.precision} {width}x{height}{more}"


def iterations_job(
    bench: Bench,
    size: tuple[int, int],
    runs: Iterable[Run],
    preset: str = "gatys-pytorch",
    *,
    alone: bool = False,
    prove_at: tuple[int, int] | None = None,
) -> Job:
    """Measure ``runs`` at ``size`` (width, height), their histories full.

    A quick benchmark fills ``QUICK_PAIRS`` of them at most.

    Args:
        bench: with what.
        size: of the image.
        runs: what to measure.
        preset: the variant of the algorithm.
        alone: one after the other, so that each has the memory to itself; else interleaved.
        prove_at: (width, height) of the proof, where the oracle may not fit at ``size``.
    """
    width, height = size
    by_name = {run.name(width, height): run for run in runs}
    cases = {
        name: {
            **bench.common(), **vars(run), "preset": preset, "width": width, "height": height,
            "seed": 0,
        }
        for name, run in by_name.items()
    }  # fmt: skip
    group = _Group(bench, size, by_name, cases, preset, alone, prove_at or size)
    return Job(cases, group.measured)


@dataclass
class _Prepared:
    """An engine that is built, proven and on its way, each iteration like the next."""

    problem: Problem
    settings: Settings
    walk: Walk
    setup: Setup
    peak_bytes: int | None
    checks: list[Check]


@dataclass
class _Group:
    bench: Bench
    size: tuple[int, int]
    runs: Mapping[str, Run]
    cases: Mapping[str, Parameters]
    preset: str
    alone: bool
    prove_at: tuple[int, int]
    proof: Proof = field(init=False)

    def measured(self, names: Collection[str]) -> Iterator[Case]:
        settings = self._settings(next(iter(self.runs.values())), self.prove_at)
        self._measure_roofs(names)  # while the memory is free
        self.bench.progress(f"evaluating the oracle at {self.prove_at[0]}x{self.prove_at[1]}")
        self.proof = Proof(*self._pictures(), settings)
        for together in [[name] for name in names] if self.alone else [list(names)]:
            torch.compiler.reset()  # else the ninth thing compiled of a function is run eagerly
            yield from contained(together, self.cases, self._together)
            release(self.bench.device)

    def _measure_roofs(self, names: Collection[str]) -> None:
        self.bench.progress("measuring copies and products")
        self.bench.roofs.copy()
        for precision in dict.fromkeys(self.runs[name].precision for name in names):
            self.bench.roofs.matmul(precision)

    def _together(self, names: Collection[str]) -> Iterator[Case]:
        ready, faults = attempt(names, self.cases, self._prepare)
        yield from faults
        wrong = [name for name, each in ready.items() if not passed(each.checks)]
        for name in wrong:
            yield self._refused(name, ready.pop(name).checks)
        if not ready:
            return
        timings, remark = self._timings(ready)
        yield from each_case(
            ready, self.cases, lambda name: self._case(name, ready[name], timings[name], remark)
        )

    def _pictures(self) -> tuple[ImageSource, ImageSource]:
        return self.bench.content(*self.size), self.bench.style(*self.size)

    def _settings(self, run: Run, size: tuple[int, int]) -> Settings:
        return self.bench.settings(preset=self.preset, size=max(size), **vars(run))

    def _checks(self, name: str, engine: Engine, when: str) -> list[Check]:
        run = self.runs[name]
        if self.prove_at != self.size:
            when += f", at {self.prove_at[0]} x {self.prove_at[1]} px"
            engine = pose(*self._pictures(), self._settings(run, self.prove_at)).engine
        return self.proof.checks(engine, run.precision, when)

    def _checks_after(self, name: str, each: _Prepared) -> list[Check]:
        """At the size that was timed wherever the oracle fits, and there of the timed loop too."""
        when, precision = "after the timed loop", self.runs[name].precision
        if self.prove_at == self.size:
            proof = self.proof
        elif oracle_fits(self.size, self.bench.device):
            proof = Proof(*self._pictures(), self._settings(self.runs[name], self.size))
        else:
            return self._checks(name, each.problem.engine, when)
        return [
            *proof.checks(each.problem.engine, precision, when),
            proof.goes_on(each.walk, precision),
        ]

    def _prepare(self, name: str) -> _Prepared:
        run, device = self.runs[name], self.bench.device
        # Weights by name: loaded and let go of as for a user, which counts in time and memory.
        settings = replace(self._settings(run, self.size), weights=self.bench.options.weights)
        sources = self._pictures()
        self.bench.progress(f"building {name} and filling its history")
        with peak_memory(device) as peak:
            start = time.perf_counter()
            problem = pose(*sources, settings)
            walk = Walk(problem, settings)
            synchronize(device)
            built = time.perf_counter()
            walk.advance(1)
            synchronize(device)
            first = time.perf_counter()
            # What is timed has a full history, and so has what its memory is taken of.
            capture = walk.settle(QUICK_PAIRS if self.bench.options.quick else None)
        self.bench.progress(f"proving {name}")
        checks = self._checks(name, problem.engine, "at the start")
        setup = Setup(build=built - start, first=first - built, capture=capture)
        return _Prepared(problem, settings, walk, setup, peak.bytes, checks)

    def _timings(self, ready: Mapping[str, _Prepared]) -> tuple[dict[str, Timing], str | None]:
        """Time what is ready with the roofs beside it, or without where memory runs out."""
        try:
            return self._timed(ready, self._precisions(ready)), None
        except Exception as error:
            if not out_of_memory(error):
                raise
        release(self.bench.device)
        return self._timed(ready, {}), "no roof: memory ran out with it"

    def _precisions(self, ready: Mapping[str, _Prepared]) -> dict[str, Settings]:
        return {self.runs[name].precision: each.settings for name, each in ready.items()}

    def _timed(
        self, ready: Mapping[str, _Prepared], precisions: Mapping[str, Settings]
    ) -> dict[str, Timing]:
        """Time what is ready, and the roofs of ``precisions`` beside it."""
        self.bench.progress(f"timing {', '.join(ready)}")
        roofs, height_width = self.bench.roofs, self.size[::-1]
        contestants = {
            name: Contestant(each.walk.advance, replays=each.walk.replays)
            for name, each in ready.items()
        }
        for precision, settings in precisions.items():
            stack = self.bench.stack(settings)
            contestants |= roofs.contestants(precision, height_width, stack)
        found = measure_interleaved(contestants, self.bench.device, self.bench.plan)
        for precision in precisions:
            roofs.settle(precision, height_width, found)
        return found

    def _case(self, name: str, each: _Prepared, timing: Timing, remark: str | None) -> Case:
        run = self.runs[name]
        self.bench.progress(f"proving {name} again")
        checks = [
            *each.checks,
            *self._checks_after(name, each),
            finite("the image after the timed loop", each.walk.image),
        ]
        if not passed(checks):
            return self._refused(name, checks)
        height, width = each.problem.image.shape[-2:]
        stack = self.bench.stack(each.settings)
        flops = iteration_flops(stack, each.problem, (height, width))
        iteration_floor(self.bench.roofs, stack, run.precision, (height, width)).check(
            timing.median, name
        )
        roof = self.bench.roofs.convolutions(run.precision, (height, width))
        its_parts, missing = spared(
            "parts", lambda: parts(each.walk, timing.median), dict[str, float]()
        )
        return Case(
            name=name,
            parameters=self.cases[name],
            note=remarks(remark, missing),
            parity=Parity(ORACLE, checks),
            timing=timing,
            setup=each.setup,
            peak_bytes=each.peak_bytes,
            flops=flops,
            roof_share=roof.value / timing.median if roof else None,
            parts=its_parts,
            values={"megapixel iterations a second": width * height / timing.median / 1e6},
        )

    def _refused(self, name: str, checks: list[Check]) -> Case:
        wrong = [check.what for check in checks if not check.passed]
        return Case(
            name=name,
            parameters=self.cases[name],
            status="parity failed",
            note=f"outside the tolerance: {', '.join(wrong)}; no time is kept",
            parity=Parity(ORACLE, checks),
        )
