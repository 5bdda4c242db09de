"""Cases of engines: whole iterations built, proven, timed side by side, and proven again."""

from __future__ import annotations

import gc
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch

from stylebench.bench.measure.clocks import synchronize
from stylebench.bench.measure.memory import out_of_memory, peak_memory, release
from stylebench.bench.measure.timing import Candidate, measure_interleaved
from stylebench.bench.records.record import Case, Parity, RecordedCheck, Setup, Timing, Value
from stylebench.bench.suites.base import Bench, Job, Parameters, isolate, isolate_each, optional
from stylebench.bench.workloads.breakdown import breakdown
from stylebench.bench.workloads.lower_bound import iteration_flops, iteration_lower_bound
from stylebench.bench.workloads.parity_gate import ORACLE, ParityGate, finite, oracle_fits, passed
from stylebench.bench.workloads.timed_run import QUICK_PAIRS, TimedRun
from stylebench.engines import Engine
from stylebench.transfer.prepare import load_inputs
from stylebench.transfer.problem import Problem, build_problem
from stylebench.transfer.settings import HISTORY, Settings


@dataclass(frozen=True)
class EngineRun:
    """An engine with the settings that its speed depends on.

    Attributes:
        engine: as ``Settings.engine``.
        precision: as ``Settings.precision``.
        optimizer: as ``Settings.optimizer``.
        history: as ``Settings.history``.
        tile: as ``Settings.tile``; here ``auto`` is whole, whether it fits or not.
    """

    engine: str
    precision: str
    optimizer: str = "lbfgs"
    history: int = HISTORY
    tile: int | str = "auto"

    @property
    def choices(self) -> dict[str, Value]:
        """The settings by name, of tiles those that there are."""
        return {name: value for name, value in vars(self).items() if value != "auto"}

    def name(self, width: int, height: int) -> str:
        """``fused fp32 512x384``, with what is not usual behind it."""
        more = f" {self.optimizer}" if self.optimizer != "lbfgs" else ""
        more += f" history {self.history}" if self.history != HISTORY else ""
        more += f" tile {self.tile}" if self.tile != "auto" else ""
        return f"{self.engine} {self.precision} {width}x{height}{more}"


def engine_job(
    bench: Bench,
    size: tuple[int, int],
    runs: Iterable[EngineRun],
    *,
    alone: bool = False,
    prove_at: tuple[int, int] | None = None,
) -> Job:
    """A job that measures ``runs`` with full histories; quick ones have ``QUICK_PAIRS`` at most.

    Args:
        bench: what the job works with.
        size: (width, height) of the image.
        runs: engines to measure.
        alone: one after the other, so that each has the memory to itself; else interleaved.
        prove_at: (width, height) of the parity gate, where the oracle may not fit at ``size``.
    """
    by_name = {run.name(*size): run for run in runs}
    cases = {name: bench.parameters(size, **run.choices) for name, run in by_name.items()}
    group = _Group(bench, size, by_name, cases, alone, prove_at or size)
    return Job(cases, group.measured)


@dataclass
class _Prepared:
    """An engine that is built and proven, its history full."""

    problem: Problem
    settings: Settings
    timed_run: TimedRun
    setup: Setup
    peak_bytes: int | None
    checks: list[RecordedCheck]


@dataclass
class _Group:
    bench: Bench
    size: tuple[int, int]
    runs: Mapping[str, EngineRun]
    cases: Mapping[str, Parameters]
    alone: bool
    prove_at: tuple[int, int]
    gate: ParityGate = field(init=False)

    def measured(self, names: Collection[str]) -> Iterator[Case]:
        settings = self._settings(next(iter(self.runs.values())), self.prove_at)
        self._measure_roofs(names)  # while the memory is free
        self.bench.progress(f"evaluating the oracle at {self.prove_at[0]}x{self.prove_at[1]}")
        self.gate = self._gate(settings)
        for group in [[name] for name in names] if self.alone else [list(names)]:
            torch.compiler.reset()  # else the ninth shape of a function is quietly run eagerly
            yield from isolate(self.cases, self._together, self._quickest_first(group))
            release(self.bench.device)

    def _measure_roofs(self, names: Collection[str]) -> None:
        self.bench.progress("measuring copies and products")
        self.bench.roofline.copy()
        for precision in dict.fromkeys(self.runs[name].precision for name in names):
            self.bench.roofline.matmul(precision)

    def _together(self, names: Collection[str]) -> Iterator[Case]:
        ready: dict[str, _Prepared] = {}

        def prepare(name: str) -> Case | None:
            same = (other for other in ready if self._same_optimizer(other, name))
            like = next(same, None)
            prepared = self._prepare(name, ready[like].timed_run if like else None)
            if not passed(prepared.checks):
                return self._refused(name, prepared.checks)
            ready[name] = prepared
            return None

        yield from isolate_each(self.cases, prepare, names)
        gc.collect()
        if not ready:
            return
        timings, note = self._timings(ready)

        def case(name: str) -> Case:
            return self._case(name, ready[name], timings[name], note)

        in_order = [name for name in self.cases if name in ready]
        yield from isolate_each(self.cases, case, in_order)

    def _quickest_first(self, names: Collection[str]) -> list[str]:
        """``names``, the fused engine's first: the others take its history over."""
        return sorted(names, key=lambda name: self.runs[name].engine != "fused")

    def _same_optimizer(self, name: str, other: str) -> bool:
        one, two = self.runs[name], self.runs[other]
        return (one.optimizer, one.history) == (two.optimizer, two.history)

    def _gate(self, settings: Settings) -> ParityGate:
        whole = replace(settings, tile="auto")  # so that an oracle knows nothing of tiles
        return ParityGate(self.bench.inputs(self.size, whole), whole)

    def _settings(self, run: EngineRun, size: tuple[int, int]) -> Settings:
        return self.bench.settings(size=max(size), **vars(run))

    def _checks(self, name: str, engine: Engine, when: str) -> list[RecordedCheck]:
        run = self.runs[name]
        if self.prove_at != self.size:
            when += f", at {self.prove_at[0]} x {self.prove_at[1]} px"
            settings = self._settings(run, self.prove_at)
            engine = build_problem(self.bench.inputs(self.size, settings), settings).engine
        return self.gate.checks(engine, run.precision, when)

    def _checks_after(self, name: str, prepared: _Prepared) -> list[RecordedCheck]:
        """Checks at the timed size wherever the oracle fits, those of the timed loop included."""
        when, precision = "after the timed loop", self.runs[name].precision
        engine = prepared.problem.engine
        if self.prove_at == self.size:
            gate = self.gate
        elif oracle_fits(self.size, self.bench.device):
            gate = self._gate(self._settings(self.runs[name], self.size))
        else:
            return self._checks(name, engine, when)
        return [
            *gate.checks(engine, precision, when),
            gate.check_timed_loop(prepared.timed_run, precision),
        ]

    def _prepare(self, name: str, like: TimedRun | None) -> _Prepared:
        run, device = self.runs[name], self.bench.device
        # Weights by name: loaded and let go of as for a user, which counts in time and memory.
        settings = replace(self._settings(run, self.size), weights=self.bench.options.weights)
        pictures = self.bench.content(*self.size), self.bench.style(*self.size)
        self.bench.progress(f"building {name} and filling its history")
        with peak_memory(device) as peak:
            start = time.perf_counter()
            problem = build_problem(load_inputs(*pictures, settings), settings, last=True)
            timed_run = TimedRun(problem, settings)
            synchronize(device)
            built = time.perf_counter()
            timed_run.advance(1)
            synchronize(device)
            first = time.perf_counter()
            # With the history full, as it is timed, so that its memory counts.
            most = QUICK_PAIRS if self.bench.options.quick else None
            capture = timed_run.settle(like, most)
        self.bench.progress(f"proving {name}")
        checks = self._checks(name, problem.engine, "at the start")
        setup = Setup(build=built - start, first=first - built, capture=capture)
        return _Prepared(problem, settings, timed_run, setup, peak.bytes, checks)

    def _timings(self, ready: Mapping[str, _Prepared]) -> tuple[dict[str, Timing], str | None]:
        """Time what is ready with the roofs beside it, or without where memory runs out."""
        settings = {  # tiles are for maps that do not fit, and nor would the roof's
            self.runs[name].precision: one.settings
            for name, one in ready.items()
            if self.runs[name].tile == "auto"
        }
        try:
            return self._timed(ready, settings), None
        except Exception as error:
            if not out_of_memory(error):
                raise
        release(self.bench.device)
        return self._timed(ready, {}), "no roof: memory ran out with it"

    def _timed(
        self, ready: Mapping[str, _Prepared], precisions: Mapping[str, Settings]
    ) -> dict[str, Timing]:
        """Time what is ready, and the roofs of ``precisions`` beside it."""
        self.bench.progress(f"timing {', '.join(ready)}")
        roofline, height_width = self.bench.roofline, self.size[::-1]
        runs = {name: prepared.timed_run for name, prepared in ready.items()}
        candidates = {n: Candidate(run.advance, replays=run.replays) for n, run in runs.items()}
        for precision, settings in precisions.items():
            stack = self.bench.conv_stack(settings)
            candidates |= roofline.candidates(precision, height_width, stack)
        timings = measure_interleaved(candidates, self.bench.device, self.bench.plan)
        for precision in precisions:
            roofline.settle(precision, height_width, timings)
        return timings

    def _case(self, name: str, prepared: _Prepared, timing: Timing, note: str | None) -> Case:
        run, timed_run = self.runs[name], prepared.timed_run
        self.bench.progress(f"proving {name} again")
        checks = [
            *prepared.checks,
            *self._checks_after(name, prepared),
            finite("the image after the timed loop", timed_run.image),
        ]
        if not passed(checks):
            return self._refused(name, checks)
        size = (prepared.problem.image.shape[-2], prepared.problem.image.shape[-1])
        stack, roofline = self.bench.conv_stack(prepared.settings), self.bench.roofline
        iteration_lower_bound(roofline, stack, run.precision, size).check(timing.median, name)
        roof = roofline.convolutions(run.precision, size)
        parts, missing = optional(
            "parts", lambda: breakdown(timed_run, timing.median), dict[str, float]()
        )
        return Case(
            name=name,
            parameters=self.cases[name],
            note="; ".join(filter(None, (note, missing))) or None,
            parity=Parity(ORACLE, checks),
            timing=timing,
            setup=prepared.setup,
            peak_bytes=prepared.peak_bytes,
            flops=iteration_flops(stack, prepared.problem, size),
            roof_share=roof.value / timing.median if roof else None,
            parts=parts,
            values={"megapixel iterations a second": size[0] * size[1] / timing.median / 1e6},
        )

    def _refused(self, name: str, checks: list[RecordedCheck]) -> Case:
        wrong = [check.what for check in checks if not check.passed]
        return Case(
            name=name,
            parameters=self.cases[name],
            status="parity failed",
            note=f"outside the tolerance: {', '.join(wrong)}; no time is kept",
            parity=Parity(ORACLE, checks),
        )
