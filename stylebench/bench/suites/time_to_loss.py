"""``time-to-loss``: seconds until the loss that the reference reaches after so many iterations.

Every image on the way is judged by the fp32 reference with its own targets, whatever ran, and
outside the clock. The clock stands still between stretches of the grid too.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stylebench.bench.measure.clocks import clock_for, synchronize, watch_for
from stylebench.bench.measure.samples import Samples
from stylebench.bench.records.record import Case, Parity, Point, Setup
from stylebench.bench.suites.base import Bench, Job, Parameters, each_case
from stylebench.bench.workloads.lower_bound import iteration_floor
from stylebench.bench.workloads.parity_gate import ORACLE, Proof, passed
from stylebench.bench.workloads.precisions import chosen
from stylebench.bench.workloads.timed_run import Walk
from stylebench.cli.parsing import parse_scales
from stylebench.model.vgg import smallest_side
from stylebench.transfer.problem import Problem, pose
from stylebench.transfer.schedule import carried, coarse_to_fine
from stylebench.transfer.settings import Settings

_SIZES = {"cpu": (256, 192), "cuda": (512, 512)}
_QUICK_SIZE = (64, 48)
_MARKS, _QUICK_MARKS = (100, 200, 300), (4, 8, 12)  # iterations of the reference
_PATIENCE = 1.5  # times the reference's iterations that a configuration may take
_GRID = 60  # stretches of a run
_SLACKS = {"": 0.0, "_plus_0.5_percent": 0.005}
_HISTORIES = (10, 20, 50, 100)
_Choices = Mapping[str, str | int]


class TimeToLoss:
    """Every engine, fused at every precision and history, and coarse to fine; then from noise."""

    name = "time-to-loss"

    def jobs(self, bench: Bench) -> Iterator[Job]:
        """One job a start; all of it are measured against one run of the reference."""
        (size,) = bench.sizes(_QUICK_SIZE if bench.options.quick else _SIZES[bench.kind])
        marks = _QUICK_MARKS if bench.options.quick else _MARKS
        schedules = _schedules(bench, size, marks)
        yield self._job(bench, size, marks, "content", _engines(bench) | schedules)
        yield self._job(bench, size, marks, "noise", _one_scale(bench) | schedules)

    def _job(
        self,
        bench: Bench,
        size: tuple[int, int],
        marks: Sequence[int],
        init: str,
        configurations: Mapping[str, _Choices],
    ) -> Job:
        width, height = size
        cases: dict[str, Parameters] = {
            f"{name} {width}x{height} from {init}": {
                **bench.common(), "preset": "gatys-pytorch", "width": width, "height": height,
                "optimizer": "lbfgs", "init": init, "seed": 0, **choices,
            }
            for name, choices in configurations.items()
        }  # fmt: skip

        def run(names: Collection[str]) -> Iterator[Case]:
            torch.compiler.reset()  # sizes add up to more than a function may be compiled for
            bench.progress(f"running the reference from {init}")
            race = _Race.start(bench, size, marks, init)
            yield from each_case(names, cases, lambda name: race.case(name, cases[name]))

        return Job(cases, run)


_REFERENCE: _Choices = {"engine": "reference", "precision": "fp32", "history": 20}


def _engines(bench: Bench) -> dict[str, _Choices]:
    """Name -> the choices that differ: the engines, and of fused precisions and histories.

    Compiling takes minutes, which a quick benchmark has not.
    """
    table = {"reference fp32": _REFERENCE}
    for engine in ("eager",) if bench.options.quick else ("eager", "compiled"):
        best = chosen(engine, bench.device)
        table[f"{engine} {best}"] = {"engine": engine, "precision": best, "history": 20}
    histories = (20, 100) if bench.options.quick else _HISTORIES
    for precision in bench.precisions("fused"):
        for history in histories:
            table[f"fused {precision} history {history}"] = {
                "engine": "fused", "precision": precision, "history": history
            }  # fmt: skip
    return table


def _one_scale(bench: Bench) -> dict[str, _Choices]:
    fused = _fused(bench)
    return {"reference fp32": _REFERENCE, f"fused {fused['precision']}": fused}


def _fused(bench: Bench) -> dict[str, str | int]:
    return {"engine": "fused", "precision": chosen("fused", bench.device), "history": 20}


def _schedules(bench: Bench, size: tuple[int, int], marks: Sequence[int]) -> dict[str, _Choices]:
    """Name -> the choices that differ: two and three scales, where the network allows them."""
    longest, fused = max(size), _fused(bench)
    half, quarter = f"{longest // 2}={marks[0]}", f"{longest // 4}={2 * marks[0]}"
    table: dict[str, _Choices] = {}
    if min(size) // 2 >= smallest_side("relu5_1"):
        table[f"fused {fused['precision']} two scales"] = {**fused, "scales": half}
    if min(size) // 4 >= smallest_side("relu5_1"):
        table[f"fused {fused['precision']} three scales"] = {
            **fused, "scales": f"{quarter},{half}"
        }  # fmt: skip
    return table


@dataclass
class _Race:
    """The judge, and the losses to reach.

    Attributes:
        bench: with what.
        settings: what all runs share.
        judge: the fp32 reference.
        proof: that engines are right at the start.
        targets: iterations -> the reference's loss there.
    """

    bench: Bench
    settings: Settings
    judge: Problem
    proof: Proof
    size: tuple[int, int]
    targets: Mapping[int, float]

    @classmethod
    def start(cls, bench: Bench, size: tuple[int, int], marks: Sequence[int], init: str) -> _Race:
        """Run the reference to each mark."""
        sources = bench.content(*size), bench.style(*size)
        settings = bench.settings(size=max(size), iterations=max(marks), init=init)
        reference = replace(settings, engine="reference", precision="fp32")
        race = cls(bench, settings, pose(*sources, reference), Proof(*sources, settings), size, {})
        walk = Walk(race.judge, reference)
        targets: dict[int, float] = {}
        for before, mark in zip((0, *marks), marks, strict=False):
            walk.advance(mark - before)
            targets[mark] = race.judged(walk.image)
        race.targets = targets
        return race

    def judged(self, image: Tensor) -> float:
        """The loss of ``image`` by the fp32 reference with its own targets."""
        terms, _ = self.judge.engine.loss_and_grad(image.to(self.judge.image))
        return float(terms.total.item())

    def case(self, name: str, parameters: Parameters) -> Case:
        """Run one configuration until it has passed every target, or its patience is over.

        Raises:
            TooFast: it took less than its iterations can.
        """
        choices = {k: v for k, v in parameters.items() if k in ("engine", "precision", "history")}
        settings = replace(self.settings, **choices)  # type: ignore[arg-type]
        sources = self.bench.content(*self.size), self.bench.style(*self.size)
        self.bench.progress(f"building and proving {name}")
        start = time.perf_counter()
        problem = pose(*sources, settings)
        synchronize(self.bench.device)
        built = time.perf_counter()
        Walk(problem, settings).advance(1)  # compilation is part of the setup, not of the way
        synchronize(self.bench.device)
        setup = Setup(build=built - start, first=time.perf_counter() - built)
        checks = self.proof.checks(problem.engine, str(parameters["precision"]))
        block = Parity(ORACLE, checks)
        if not passed(checks):
            return Case(name, parameters, status="parity failed", parity=block)
        self.bench.progress(f"running {name}")
        scales = parameters.get("scales")
        schedule = parse_scales(str(scales)) if scales else None
        curve, stretches = self._descent(problem, replace(settings, scales=schedule))
        self._check_floor(name, curve, settings.precision)
        values = {
            f"seconds_to_{mark}{suffix}": reached.seconds
            for mark, target in self.targets.items()
            for suffix, slack in _SLACKS.items()
            if (reached := first_below(curve, target * (1 + slack))) is not None
        }
        every = len(values) == len(self.targets) * len(_SLACKS)
        note = None if every else "some losses were not reached"
        values |= {f"target_{mark}": target for mark, target in self.targets.items()}
        values["share disturbed"] = len(stretches.disturbed) / len(stretches.seconds)
        return Case(
            name, parameters, note=note, parity=block, setup=setup, curve=curve, values=values
        )

    def _check_floor(self, name: str, curve: Sequence[Point], precision: str) -> None:
        stack, (width, height) = self.bench.stack(self.settings), self.size
        first, last = curve[0], curve[-1]
        floor = iteration_floor(
            self.bench.roofs, stack, precision, (height, width), last.iteration - first.iteration
        )
        floor.check(last.seconds - first.seconds, name)

    def _descent(self, problem: Problem, settings: Settings) -> tuple[list[Point], Samples]:
        """Points of ``problem``, the largest scale; smaller ones cost their time, set-up included.

        The stretches of it come with them.

        Args:
            problem: already posed, at the size that ``settings`` end with.
            settings: with the scales to begin with.
        """
        sources = self.bench.content(*self.size), self.bench.style(*self.size)
        clock, seconds = clock_for(self.bench.device), 0.0
        *smaller, last = coarse_to_fine(settings)
        before: Problem | None = None
        image: Tensor | None = None
        for leg in smaller:
            start = time.perf_counter()
            before = _continued(pose(*sources, leg.settings), before, image)
            walk = Walk(before, leg.settings)
            synchronize(self.bench.device)
            seconds += time.perf_counter() - start
            seconds += clock.seconds(lambda: walk.advance(leg.iterations))  # noqa: B023  # at once
            image = walk.best
        return self._judged_walk(Walk(_continued(problem, before, image), last.settings), seconds)

    def _judged_walk(self, walk: Walk, seconds: float) -> tuple[list[Point], Samples]:
        longest = max(self.targets)
        step = max(1, longest // _GRID)
        marks = sorted({*range(step, round(_PATIENCE * longest) + 1, step), *self.targets})
        device, stretches = self.bench.device, Samples()
        clock, watch = clock_for(device), watch_for(device)
        curve, done = [Point(seconds, 0, self.judged(walk.image))], 0
        for mark in marks:
            stretch = mark - done
            stretches.seconds.append(clock.seconds(lambda: walk.advance(stretch)))  # noqa: B023
            stretches.mark(watch.disturbed())
            done = mark
            spent = seconds + sum(stretches.seconds)
            curve.append(Point(spent, mark, self.judged(walk.image)))
            if curve[-1].loss <= min(self.targets.values()):
                break
        stretches.mark(watch.disturbed(final=True))
        return curve, stretches


def _continued(problem: Problem, before: Problem | None, image: Tensor | None) -> Problem:
    """``problem``, from where the smaller one before it came to."""
    return problem if before is None or image is None else carried(image, before.image, problem)


def first_below(curve: Sequence[Point], target: float) -> Point | None:
    """The first point whose loss is no higher than ``target``."""
    return next((point for point in curve if point.loss <= target), None)


SUITE = TimeToLoss()
