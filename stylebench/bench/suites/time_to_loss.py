"""``time-to-loss``: seconds until the loss that the reference reaches after so many iterations.

The fp32 reference judges every image by its own targets, whatever engine made it. The clock stands
still meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from stylebench.bench.measure.clocks import clock_for, synchronize
from stylebench.bench.measure.interference import Samples, monitor_for
from stylebench.bench.records.record import Case, Parity, Point, Setup
from stylebench.bench.suites.base import Bench, Job, Parameters, isolate_each
from stylebench.bench.suites.engine_cases import EngineRun
from stylebench.bench.workloads.lower_bound import iteration_lower_bound
from stylebench.bench.workloads.parity_gate import ORACLE, ParityGate
from stylebench.bench.workloads.precisions import chosen
from stylebench.bench.workloads.timed_run import TimedRun
from stylebench.transfer.inputs import Inputs
from stylebench.transfer.problem import Problem, build_problem
from stylebench.transfer.scales import coarse_to_fine
from stylebench.transfer.schedule import make_schedule, warm_start
from stylebench.transfer.settings import Settings

_SIZES = {"cpu": (256, 192), "cuda": (512, 512)}
_QUICK_SIZE = (64, 48)
_MARKS, _QUICK_MARKS = (100, 200, 300), (4, 8, 12)  # iterations of the reference
_PATIENCE = 1.5  # times the reference's iterations that a configuration may take
_GRID = 60  # stretches of a run, each judged at its end
_SLACKS = {"": 0.0, "_plus_0.5_percent": 0.005}
_HISTORIES = (20, 50)  # besides the usual
_REFERENCE = EngineRun("reference", "fp32", optimizer="torch-lbfgs")  # as published


def jobs(bench: Bench) -> Iterator[Job]:
    """Every engine in a single scale, fused with other optimizers and coarse to fine; then noise.

    One job a start, whose cases share the losses of one run of the reference.
    """
    (size,) = bench.sizes(_QUICK_SIZE if bench.options.quick else _SIZES[bench.kind])
    fused = EngineRun("fused", chosen("fused", bench.device))
    yield _job(bench, size, "content", _engines(bench), fused)
    yield _job(bench, size, "noise", {f"fused {fused.precision}": fused}, fused)


def _job(
    bench: Bench,
    size: tuple[int, int],
    init: str,
    runs: Mapping[str, EngineRun],
    scaled: EngineRun,
) -> Job:
    """The reference and ``runs`` from ``init``, and ``scaled`` coarse to fine."""
    marks = _QUICK_MARKS if bench.options.quick else _MARKS
    label = "{} {}x{} from {}".format
    cases: dict[str, Parameters] = {
        label(name, *size, init): bench.parameters(size, init=init, **run.choices)
        for name, run in {"reference fp32": _REFERENCE, **runs}.items()
    }
    coarse = label(f"{scaled.engine} {scaled.precision} coarse to fine", *size, init)
    cases[coarse] = bench.parameters(size, init=init, scales="auto", **scaled.choices)

    def run(names: Collection[str]) -> Iterator[Case]:
        torch.compiler.reset()  # sizes add up to more than a function may be compiled for
        bench.progress(f"running the reference from {init}")
        to_loss = _TimeToLoss.start(bench, size, marks, init)

        def measured(name: str) -> Case:
            return to_loss.case(name, cases[name])

        yield from isolate_each(cases, measured, names)

    return Job(cases, run)


def _engines(bench: Bench) -> dict[str, EngineRun]:
    """Every engine, and fused at each precision, with shorter histories and torch's optimizer.

    Compiling takes minutes, so a quick benchmark leaves it out.
    """
    quick = bench.options.quick
    others = ("eager",) if quick else ("eager", "compiled")
    runs = {f"{engine} {p}": EngineRun(engine, p)
            for engine in others for p in [chosen(engine, bench.device)]}  # fmt: skip
    for precision in bench.precisions("fused"):
        name = f"fused {precision}"
        runs[name] = EngineRun("fused", precision)
        runs |= {} if quick else {
            f"{name} history {history}": EngineRun("fused", precision, history=history)
            for history in _HISTORIES
        }  # fmt: skip
    torchs = EngineRun("fused", chosen("fused", bench.device), optimizer="torch-lbfgs")
    return runs | {f"fused {torchs.precision} torch-lbfgs": torchs}


@dataclass
class _TimeToLoss:
    """The reference as the judge, and the losses to reach.

    Attributes:
        bench: what the job works with.
        inputs: pictures and weights of all runs.
        settings: those that all runs share.
        judge: the fp32 reference.
        gate: checks that an engine is right at the start image.
        size: (width, height) of the image.
        targets: iterations -> the reference's loss there.
    """

    bench: Bench
    inputs: Inputs
    settings: Settings
    judge: Problem
    gate: ParityGate
    size: tuple[int, int]
    targets: Mapping[int, float]

    @classmethod
    def start(
        cls, bench: Bench, size: tuple[int, int], marks: Sequence[int], init: str
    ) -> _TimeToLoss:
        """Run the reference to each mark."""
        settings = bench.settings(size=max(size), iterations=max(marks), init=init)
        reference = replace(settings, **vars(_REFERENCE))
        inputs = bench.inputs(size, settings)
        judge, gate = build_problem(inputs, reference), ParityGate(inputs, settings)
        to_loss = cls(bench, inputs, settings, judge, gate, size, {})
        timed_run = TimedRun(judge, reference)
        targets: dict[int, float] = {}
        for before, mark in zip((0, *marks), marks, strict=False):
            timed_run.advance(mark - before)
            targets[mark] = to_loss.judged(timed_run.image)
        return replace(to_loss, targets=targets)

    def judged(self, image: Tensor) -> float:
        """The loss of ``image`` by the fp32 reference with its own targets."""
        terms, _ = self.judge.engine.loss_and_grad(image.to(self.judge.image))
        return float(terms.total.item())

    def case(self, name: str, parameters: Parameters) -> Case:
        """Run one configuration until it has passed every target, or its patience is over.

        Raises:
            ImpossibleTime: it took less than its iterations can.
        """
        choices = {name: parameters[name] for name in _REFERENCE.choices}
        settings = replace(self.settings, **choices)  # type: ignore[arg-type]
        self.bench.progress(f"building and proving {name}")
        start = time.perf_counter()
        problem = build_problem(self.inputs, settings)
        synchronize(self.bench.device)
        built = time.perf_counter()
        TimedRun(problem, settings).advance(1)  # compilation counts as set-up, not as descent
        synchronize(self.bench.device)
        setup = Setup(build=built - start, first=time.perf_counter() - built)
        parity = Parity(ORACLE, self.gate.checks(problem.engine, settings.precision))
        if not parity.passed:
            return Case(name, parameters, status="parity failed", parity=parity)
        self.bench.progress(f"running {name}")
        scaled = coarse_to_fine(settings, self.inputs) if "scales" in parameters else settings
        curve, stretches = self._descent(problem, scaled)
        self._check_possible(name, curve, settings.precision)
        values = self._times(curve)
        reached_all = len(values) == len(self.targets) * len(_SLACKS)
        values |= {f"target_{mark}": target for mark, target in self.targets.items()}
        values["share disturbed"] = len(stretches.disturbed) / len(stretches.seconds)
        return Case(
            name, parameters, note=None if reached_all else "some losses were not reached",
            parity=parity, setup=setup, curve=curve, values=values,
        )  # fmt: skip

    def _times(self, curve: Sequence[Point]) -> dict[str, float]:
        """``seconds_to_300`` and the like -> seconds, for the losses that ``curve`` reaches."""
        return {
            f"seconds_to_{mark}{suffix}": reached.seconds
            for mark, target in self.targets.items()
            for suffix, slack in _SLACKS.items()
            if (reached := first_below(curve, target * (1 + slack))) is not None
        }

    def _check_possible(self, name: str, curve: Sequence[Point], precision: str) -> None:
        stack, (width, height) = self.bench.conv_stack(self.settings), self.size
        first, last = curve[0], curve[-1]
        iterations, size = last.iteration - first.iteration, (height, width)
        bound = iteration_lower_bound(self.bench.roofline, stack, precision, size, iterations)
        bound.check(last.seconds - first.seconds, name)

    def _descent(self, problem: Problem, settings: Settings) -> tuple[list[Point], Samples]:
        """The curve of ``problem``, the largest scale, and the stretches that it was timed in.

        Smaller scales count with all their time, set-up included.

        Args:
            problem: already built, at the final size.
            settings: with the scales to begin with.
        """
        clock, seconds = clock_for(self.bench.device), 0.0
        *smaller, last = make_schedule(settings)
        before: Problem | None = None
        image: Tensor | None = None
        for scale in smaller:
            start = time.perf_counter()
            plain = build_problem(self.inputs, scale.settings)
            timed_run = TimedRun(_continued(plain, before, image), scale.settings)
            before = plain
            synchronize(self.bench.device)
            seconds += time.perf_counter() - start
            seconds += clock.seconds(partial(timed_run.advance, scale.iterations))
            image = timed_run.best
        timed_run = TimedRun(_continued(problem, before, image), last.settings)
        return self._judged_run(timed_run, seconds)

    def _judged_run(self, timed_run: TimedRun, seconds: float) -> tuple[list[Point], Samples]:
        longest = max(self.targets)
        step = max(1, longest // _GRID)
        marks = sorted({*range(step, round(_PATIENCE * longest) + 1, step), *self.targets})
        device, stretches = self.bench.device, Samples()
        clock, monitor = clock_for(device), monitor_for(device)
        curve = [Point(seconds, 0, self.judged(timed_run.image))]
        for mark in marks:
            advance = partial(timed_run.advance, mark - curve[-1].iteration)
            stretches.seconds.append(clock.seconds(advance))
            stretches.flag(monitor.disturbed())
            spent = seconds + sum(stretches.seconds)
            curve.append(Point(spent, mark, self.judged(timed_run.image)))
            if curve[-1].loss <= min(self.targets.values()):
                break
        stretches.flag(monitor.disturbed(final=True))
        return curve, stretches


def _continued(problem: Problem, before: Problem | None, image: Tensor | None) -> Problem:
    """``problem``, started from the result of the smaller one before it, if there was one."""
    return problem if before is None or image is None else warm_start(image, before.image, problem)


def first_below(curve: Sequence[Point], target: float) -> Point | None:
    """The first point whose loss is no higher than ``target``."""
    return next((point for point in curve if point.loss <= target), None)
