"""``batch``: pictures a minute of ``stylize_batch``, and of ``stylize`` called in a loop.

A unit is a picture, from its file to the result. Every sample begins with no engine kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from PIL.Image import Transpose as _Turn
from torch import Tensor

from stylebench.bench.measure.timing import Candidate, Plan, measure_interleaved
from stylebench.bench.records.record import Case, Parity, RecordedCheck, Timing, Value
from stylebench.bench.suites.base import Bench, Job, Parameters, isolate, isolate_each
from stylebench.bench.workloads.lower_bound import iteration_lower_bound
from stylebench.bench.workloads.parity_gate import ORACLE, ParityGate, passed
from stylebench.bench.workloads.precisions import chosen
from stylebench.files.scratch import scratch_folder
from stylebench.image.load import load_image
from stylebench.image.save import save_picture, to_pil
from stylebench.transfer.api import style_transfer
from stylebench.transfer.batch import stylize_batch
from stylebench.transfer.problem import build_problem
from stylebench.transfer.reuse import clear_cache
from stylebench.transfer.settings import Settings

Paint = Callable[[Sequence[Path], Path, Settings], list[Tensor]]

_LONGEST = (128, 256, 512)  # px
_QUICK_LONGEST = (64,)
_ITERATIONS, _QUICK_ITERATIONS = {"cpu": 10, "cuda": 100}, 2
_PICTURES, _QUICK_PICTURES = 4, 2
_TURNS = (None, _Turn.FLIP_LEFT_RIGHT, _Turn.FLIP_TOP_BOTTOM, _Turn.ROTATE_180)


def _batch(contents: Sequence[Path], style: Path, settings: Settings) -> list[Tensor]:
    results = stylize_batch(contents, style, settings)
    return [result.rgb for result in results if result is not None]


def _loop(
    contents: Sequence[Path], style: Path, settings: Settings, *, reuse: bool
) -> list[Tensor]:
    return [style_transfer(path, style, settings, reuse=reuse).rgb for path in contents]


#: Case -> how it paints several pictures.
_CALLS: dict[str, Paint] = {
    "stylize_batch": _batch,
    "stylize in a loop": partial(_loop, reuse=True),
    "stylize in a loop, nothing kept": partial(_loop, reuse=False),
}


def jobs(bench: Bench) -> Iterator[Job]:
    """The three ways to paint several pictures, fused in its own choice of precision.

    One job a size, its cases interleaved.
    """
    quick, precision = bench.options.quick, chosen("fused", bench.device)
    if not quick:
        bench.plan = Plan(target=0.02, least=3, seconds=20.0)
    aspect = (1, 1) if bench.kind == "cuda" else (4, 3)
    longest = _QUICK_LONGEST if quick else _LONGEST
    for size in bench.sizes(*[(side, side * aspect[1] // aspect[0]) for side in longest]):
        choices: dict[str, Value] = {
            "engine": "fused",
            "precision": precision,
            "iterations": _QUICK_ITERATIONS if quick else _ITERATIONS[bench.kind],
        }
        count = _QUICK_PICTURES if quick else _PICTURES
        cases: dict[str, Parameters] = {
            f"{call} {precision} {size[0]}x{size[1]}": bench.parameters(
                size, **choices, call=call, pictures=count
            )
            for call in _CALLS
        }
        # Weights by name, as of files: of others no engine is kept.
        settings = bench.settings(size=max(size), weights=bench.options.weights, **choices)
        group = _Group(bench, size, cases, settings, count)
        yield Job(cases, partial(isolate, cases, group.measured))


@dataclass
class _Group:
    """The ways to paint the same pictures.

    Attributes:
        bench: what the job works with.
        size: (width, height) of the pictures.
        cases: name -> parameters.
        settings: of every picture's run.
        count: pictures.
        painted: case -> the pictures [3, H, W] that it made last.
    """

    bench: Bench
    size: tuple[int, int]
    cases: dict[str, Parameters]
    settings: Settings
    count: int
    painted: dict[str, list[Tensor]] = field(default_factory=dict)

    def measured(self, names: Collection[str]) -> Iterator[Case]:
        with scratch_folder("stylebench-batch-") as folder:
            contents, style = self._written(folder)
            self.bench.progress(f"evaluating the oracle at {self.size[0]}x{self.size[1]}")
            inputs = self.bench.inputs(self.size, self.settings)
            engine = build_problem(inputs, self.settings).engine
            gate, precision = ParityGate(inputs, self.settings), self.settings.precision
            checks = gate.checks(engine, precision)
            if not passed(checks):
                yield from (self._refused(name, checks) for name in names)
                return
            alone = _loop(contents, style, self.settings, reuse=False)
            self.bench.progress(f"timing {', '.join(names)}")
            candidates = {name: self._candidate(name, contents, style) for name in names}
            timings = measure_interleaved(candidates, self.bench.device, self.bench.plan)
            checks += gate.checks(engine, precision, "after the timed loop")
            yield from isolate_each(
                self.cases, lambda name: self._case(name, checks, alone, timings[name]), names
            )

    def _written(self, folder: Path) -> tuple[list[Path], Path]:
        """The pictures' files: the content turned in several ways, and the style."""
        content = to_pil(load_image(self.bench.content(*self.size)).rgb)
        contents = [folder / f"{number}.png" for number in range(self.count)]
        for path, turn in zip(contents, _TURNS, strict=False):
            save_picture(path, content if turn is None else content.transpose(turn))
        style = folder / "style.png"
        save_picture(style, to_pil(load_image(self.bench.style(*self.size)).rgb))
        return contents, style

    def _candidate(self, name: str, contents: Sequence[Path], style: Path) -> Candidate:
        paint = _CALLS[str(self.cases[name]["call"])]

        def run(pictures: int) -> None:
            clear_cache()
            times = pictures // self.count
            self.painted[name] = paint([*contents] * times, style, self.settings)

        return Candidate(run, per_sample=self.count, multiple=self.count)

    def _case(
        self, name: str, checks: Sequence[RecordedCheck], alone: Sequence[Tensor], timing: Timing
    ) -> Case:
        pairs = zip(self.painted[name], alone, strict=True)
        unlike = max(float((one != other).float().mean()) for one, other in pairs)
        checks = [*checks, RecordedCheck.of("values unlike a lone run's", unlike, 0.0)]
        if not passed(checks):
            return self._refused(name, checks)
        stack, (width, height) = self.bench.conv_stack(self.settings), self.size
        precision, iterations = self.settings.precision, self.settings.iterations or 1
        iteration_lower_bound(
            self.bench.roofline, stack, precision, (height, width), iterations
        ).check(timing.median, name)
        return Case(
            name=name,
            parameters=self.cases[name],
            parity=Parity(ORACLE, list(checks)),
            timing=timing,
            values={"pictures a minute": 60 / timing.median},
        )

    def _refused(self, name: str, checks: Sequence[RecordedCheck]) -> Case:
        wrong = [check.what for check in checks if not check.passed]
        note = f"outside the tolerance: {', '.join(wrong)}; no time is kept"
        parity = Parity(ORACLE, list(checks))
        return Case(name, self.cases[name], status="parity failed", note=note, parity=parity)
