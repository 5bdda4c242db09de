"""``time-to-loss``: seconds until the loss that the reference reaches after so many iterations.

Every image on the way is judged by the fp32 reference with its own targets, whatever ran, and
outside the clock. The clock stands still between stretches of the grid too.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor

from stylebench.bench.clocks import clock_for, synchronise
from stylebench.bench.iterate import Walk
from stylebench.bench.precisions import chosen
from stylebench.bench.proof import ORACLE, Proof, passed
from stylebench.bench.record import Case, Parity, Point, Setup
from stylebench.bench.suite import Bench, Job, Parameters, fault
from stylebench.problem import Problem, pose
from stylebench.settings import Settings
from stylebench.transfer import style_transfer

_SIZES = {"cpu": (256, 192), "cuda": (512, 512)}
_QUICK_SIZE = (64, 48)
_MARKS, _QUICK_MARKS = (100, 200, 300), (4, 8, 12)  # iterations of the reference
_PATIENCE = 1.5  # times the reference's iterations that a configuration may take
_GRID = 60  # stretches of a run
_SLACKS = {"": 0.0, "_plus_0.5_percent": 0.005}
_HISTORIES = (10, 20, 50, 100)


class TimeToLoss:
    """The reference, then fused at every precision and history, then coarse-to-fine if there is."""

    name = "time-to-loss"

    def jobs(self, bench: Bench) -> Iterator[Job]:
        """One job: all are measured against one run of the reference."""
        kind = "cuda" if bench.device.type == "cuda" else "cpu"
        (size,) = bench.sizes(_QUICK_SIZE if bench.options.quick else _SIZES[kind])
        marks = _QUICK_MARKS if bench.options.quick else _MARKS
        width, height = size
        cases: dict[str, Parameters] = {
            f"{name} {width}x{height}": {
                **bench.common(), "preset": "gatys-pytorch", "width": width, "height": height,
                "optimizer": "lbfgs", "seed": 0, **choices,
            }
            for name, choices in _configurations(bench).items()
        }  # fmt: skip

        def run(names: Collection[str]) -> Iterator[Case]:
            race = _Race.start(bench, size, marks)
            for name in names:
                try:
                    yield race.case(name, cases[name])
                except Exception as error:
                    yield fault(name, cases[name], error)

        yield Job(cases, run)


def _configurations(bench: Bench) -> dict[str, dict[str, str | int]]:
    """Name -> the choices that differ."""
    table: dict[str, dict[str, str | int]] = {
        "reference fp32": {"engine": "reference", "precision": "fp32", "history": 20}
    }
    histories = (20, 100) if bench.options.quick else _HISTORIES
    for precision in bench.precisions("fused"):
        for history in histories:
            table[f"fused {precision} history {history}"] = {
                "engine": "fused", "precision": precision, "history": history
            }  # fmt: skip
    if any(field.name == "scales" for field in fields(Settings)):
        best = chosen("fused", bench.device)
        coarse: dict[str, str | int] = {"engine": "fused", "precision": best, "history": 100}
        table[f"fused {best} coarse-to-fine"] = {**coarse, "scales": 2}
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
    def start(cls, bench: Bench, size: tuple[int, int], marks: Sequence[int]) -> _Race:
        """Run the reference to each mark."""
        sources = bench.content(*size), bench.style(*size)
        settings = bench.settings(size=max(size), iterations=max(marks))
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
        """Run one configuration until it has passed every target, or its patience is over."""
        choices = {k: v for k, v in parameters.items() if k in ("engine", "precision", "history")}
        settings = replace(self.settings, **choices)  # type: ignore[arg-type]
        sources = self.bench.content(*self.size), self.bench.style(*self.size)
        start = time.perf_counter()
        problem = pose(*sources, settings)
        synchronise(self.bench.device)
        built = time.perf_counter()
        Walk(problem, settings).advance(1)  # compilation is part of the setup, not of the way
        synchronise(self.bench.device)
        setup = Setup(build=built - start, first=time.perf_counter() - built)
        checks = self.proof.checks(problem.engine, str(parameters["precision"]))
        block = Parity(ORACLE, checks)
        if not passed(checks):
            return Case(name, parameters, status="parity failed", parity=block)
        if "scales" in parameters:
            scales: dict[str, Any] = {"scales": parameters["scales"]}
            curve = self._whole_runs(replace(settings, **scales))
        else:
            curve = self._descent(problem, settings)
        values = {
            f"seconds_to_{mark}{suffix}": reached.seconds
            for mark, target in self.targets.items()
            for suffix, slack in _SLACKS.items()
            if (reached := first_below(curve, target * (1 + slack))) is not None
        }
        every = len(values) == len(self.targets) * len(_SLACKS)
        note = None if every else "some losses were not reached"
        values |= {f"target_{mark}": target for mark, target in self.targets.items()}
        return Case(
            name, parameters, note=note, parity=block, setup=setup, curve=curve, values=values
        )

    def _descent(self, problem: Problem, settings: Settings) -> list[Point]:
        longest = max(self.targets)
        step = max(1, longest // _GRID)
        marks = sorted({*range(step, round(_PATIENCE * longest) + 1, step), *self.targets})
        clock = clock_for(self.bench.device)
        walk = Walk(problem, settings)
        curve, seconds, done = [Point(0.0, 0, self.judged(walk.image))], 0.0, 0
        for mark in marks:
            stretch = mark - done
            seconds += clock.seconds(lambda: walk.advance(stretch))  # noqa: B023  # called at once
            done = mark
            curve.append(Point(seconds, mark, self.judged(walk.image)))
            if done >= longest and curve[-1].loss <= min(self.targets.values()):
                break
        return curve

    def _whole_runs(self, settings: Settings) -> list[Point]:
        """A point a mark, each a run of its own: a coarse-to-fine run cannot be cut short."""
        sources = self.bench.content(*self.size), self.bench.style(*self.size)
        curve = []
        for mark in self.targets:
            result = style_transfer(*sources, replace(settings, iterations=mark))
            image = self.judge.preprocessing.apply(result.rgb[None].to(self.judge.image))
            seconds = float(result.parameters["seconds"])
            curve.append(Point(seconds, mark, self.judged(image)))
        return curve


def first_below(curve: Sequence[Point], target: float) -> Point | None:
    """The first point whose loss is no higher than ``target``."""
    return next((point for point in curve if point.loss <= target), None)


SUITE = TimeToLoss()
