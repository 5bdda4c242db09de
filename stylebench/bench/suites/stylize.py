"""``stylize``: from the shell to the saved picture, as a subprocess, cold and warm."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from statistics import mean

import stylebench
import stylekernels
from stylebench.bench.measure.interference import Samples, monitor_for
from stylebench.bench.measure.statistics import timing
from stylebench.bench.measure.timing import LowerBound
from stylebench.bench.records.record import Case, Parity, RecordedCheck, Timing
from stylebench.bench.suites.base import Bench, Job, Parameters, isolate_each
from stylebench.bench.workloads.lower_bound import iteration_lower_bound
from stylebench.bench.workloads.precisions import chosen
from stylebench.files.scratch import scratch_folder
from stylebench.image.load import load_image
from stylebench.image.save import read_parameters, save_picture, to_pil
from stylebench.parity.errors import perturbed
from stylebench.parity.harness import LOSS_EXCESS, ROUNDED, allowance
from stylebench.transfer.prepare import load_inputs
from stylebench.transfer.problem import Problem, build_problem
from stylebench.transfer.run import run
from stylebench.transfer.settings import Settings

_SIZES = {"cpu": (256, 192), "cuda": (512, 512)}
_ITERATIONS = {"cpu": 100, "cuda": 500}
_QUICK_SIZE, _QUICK_ITERATIONS = (64, 48), 5
_WARM_RUNS, _QUICK_WARM_RUNS = 5, 1
_ENGINES, _QUICK_ENGINES = ("fused", "compiled", "reference"), ("fused", "reference")
_CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
_LIMIT = 1800  # s of one run


def jobs(bench: Bench) -> Iterator[Job]:
    """Each engine at its ``auto`` precision: the first run on a machine, and later ones.

    One job, whose pictures are all judged by one reference.
    """
    kind, quick = bench.kind, bench.options.quick
    (size,) = bench.sizes(_QUICK_SIZE if quick else _SIZES[kind])
    iterations = _QUICK_ITERATIONS if quick else _ITERATIONS[kind]
    width, height = size
    cases: dict[str, Parameters] = {}
    for engine in _QUICK_ENGINES if quick else _ENGINES:
        precision = chosen(engine, bench.device)
        cases[f"{engine} {width}x{height} {iterations} iterations"] = bench.parameters(
            size, engine=engine, precision=precision, iterations=iterations
        )

    def measured(names: Collection[str]) -> Iterator[Case]:
        with scratch_folder("stylebench-shell-") as folder:
            shell = _Shell.prepared(bench, size, iterations, folder)
            yield from isolate_each(cases, lambda name: shell.case(name, cases[name]), names)

    yield Job(cases, measured)


@dataclass
class _Shell:
    """A folder with the input pictures, and the reference that judges the outputs."""

    bench: Bench
    settings: Settings
    folder: Path
    judge: Problem
    expected: list[float]  # the reference's final losses

    @classmethod
    def prepared(cls, bench: Bench, size: tuple[int, int], iterations: int, folder: Path) -> _Shell:
        settings = bench.settings(size=max(size), iterations=iterations)
        sources = {"content": bench.content(*size), "style": bench.style(*size)}
        for name, source in sources.items():
            save_picture(folder / f"{name}.png", to_pil(load_image(source).rgb))
        reference = replace(settings, engine="reference", precision="fp32")
        inputs = load_inputs(folder / "content.png", folder / "style.png", reference)
        judge = build_problem(inputs, reference)
        starts = [judge.image, *perturbed(judge.image, ROUNDED)]
        runs = [run(replace(judge, image=start), reference) for start in starts]
        return cls(bench, settings, folder, judge, [float(r.parameters["loss"]) for r in runs])

    def case(self, name: str, parameters: Parameters) -> Case:
        """Run the command with empty caches, then as often as it takes with full ones.

        Raises:
            ImpossibleTime: a run took less than its iterations can.
        """
        engine = str(parameters["engine"])
        caches = self.folder / f"caches-{engine}"  # no space: compilers are told of it
        runs = _QUICK_WARM_RUNS if self.bench.options.quick else _WARM_RUNS
        self.bench.progress(f"{name}, cold")
        cold = self._seconds(engine, caches)
        self.bench.progress(f"{name}, warm, {runs} times")
        warm = self._warm(engine, caches, runs)
        loss = self._reached()
        precision, iterations = str(parameters["precision"]), self.judge.preset.iterations
        allowed = LOSS_EXCESS[precision] + allowance(self.expected, runs=1)
        excess = loss / mean(self.expected) - 1
        check = RecordedCheck.of("final loss by its own account above", excess, allowed)
        block = Parity("fp32 reference", [check])
        if not block.passed:
            return Case(name, parameters, status="parity failed", parity=block)
        self._lower_bound(precision, iterations).check(min(cold, *warm.samples), name)
        return Case(
            name=name,
            parameters=parameters,
            parity=block,
            timing=warm,
            values={
                "cold_seconds": cold,
                "warm_seconds": warm.median,
                # imports, network and targets, one iteration, the picture saved
                "first_iteration_seconds": self._seconds(engine, caches, iterations=1),
            },
        )

    def _lower_bound(self, precision: str, iterations: int) -> LowerBound:
        stack, height_width = self.bench.conv_stack(self.settings), self.judge.image.shape[-2:]
        size = height_width[0], height_width[1]
        return iteration_lower_bound(self.bench.roofline, stack, precision, size, iterations)

    def _warm(self, engine: str, caches: Path, runs: int) -> Timing:
        monitor, samples = monitor_for(self.bench.device), Samples()
        for _ in range(runs):
            samples.seconds.append(self._seconds(engine, caches))
            samples.flag(monitor.disturbed())
        samples.flag(monitor.disturbed(final=True))
        return timing("perf_counter", samples.seconds, samples.disturbed)

    def _seconds(self, engine: str, caches: Path, iterations: int | None = None) -> float:
        """Seconds of one run of the command, in a process of its own."""
        iterations = iterations or self.judge.preset.iterations
        caches.mkdir(exist_ok=True)
        folders = {name: str(caches / name.lower()) for name in _CACHES}
        command = [
            sys.executable, "-m", "stylebench", "stylize", "content.png", "style.png",
            "--output", "out.png", "--engine", engine, "--weights", self._weights(),
            "--size", str(self.settings.size), "--iterations", str(iterations),
            "--device", str(self.bench.device), "--quiet", "--scales", "none",
            "--optimizer", self.settings.optimizer,
        ]  # fmt: skip
        start = time.perf_counter()
        done = subprocess.run(
            command, cwd=self.folder, env={**os.environ, **sources(), **folders},
            capture_output=True, text=True, check=False, timeout=_LIMIT,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        if done.returncode:
            raise RuntimeError(f"stylize ended with {done.returncode}: {done.stderr[-200:]}")
        return seconds

    def _weights(self) -> str:
        weights = self.bench.options.weights  # a file's path must hold in the command's own folder
        return str(Path(weights).resolve()) if Path(weights).is_file() else weights

    def _reached(self) -> float:
        """The final loss in the picture's metadata, from before it was clamped and rounded.

        With random weights clamping costs several times the loss, and more than engines differ by.
        """
        parameters = read_parameters(self.folder / "out.png") or {}
        return float(parameters.get("loss", inf))


def sources() -> dict[str, str]:
    """``PYTHONPATH`` with which the command imports the same packages as this process."""
    packages = (stylebench.__file__, stylekernels.__file__)
    roots = [str(Path(file or ".").parents[1]) for file in packages]
    return {"PYTHONPATH": os.pathsep.join([*roots, os.environ.get("PYTHONPATH", "")])}
