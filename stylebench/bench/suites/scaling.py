"""``scaling``: one picture in one process and in several, each with one thread or one GPU."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from stylebench.bench.measure.statistics import timing
from stylebench.bench.records.record import Case, Parity, RecordedCheck
from stylebench.bench.suites.base import Bench, Job, Parameters, isolate_each
from stylebench.bench.suites.child_process import child_process
from stylebench.bench.suites.stylize import sources
from stylebench.bench.workloads.lower_bound import iteration_lower_bound
from stylebench.bench.workloads.parity_gate import ORACLE, ParityGate, passed
from stylebench.bench.workloads.precisions import chosen
from stylebench.bench.workloads.scaled_run import ITERATIONS, RAN, RUN, ScaledRun
from stylebench.files.scratch import scratch_folder
from stylebench.image.load import load_image
from stylebench.image.save import save_picture, to_pil
from stylebench.model.precision import PRECISIONS
from stylebench.parity.errors import loss_error
from stylebench.transfer.problem import build_problem
from stylebench.transfer.settings import Settings

_SIZES = {"cpu": [(256, 192), (512, 384)], "cuda": [(2048, 2048), (4096, 4096)]}
_QUICK_SIZES = {"cpu": [(64, 48)], "cuda": [(512, 512)]}
_PROCESSES, _QUICK_PROCESSES = (1, 2, 4, 8), (1, 2)
_HISTORY = 10  # pairs, which the iterations before the timed ones fill
_GRADIENT, _TRAJECTORY = 1e-6, 1e-5  # of one process's own
_LIMIT = 1800  # s of one run


def jobs(bench: Bench) -> Iterator[Job]:
    """One job a size: one process, two, and as many more as there are cores or GPUs for."""
    kind, quick = bench.kind, bench.options.quick
    there = torch.cuda.device_count() if kind == "cuda" else len(os.sched_getaffinity(0))
    counts = [n for n in (_QUICK_PROCESSES if quick else _PROCESSES) if n <= max(2, there)]
    for size in bench.sizes(*(_QUICK_SIZES if quick else _SIZES)[kind]):
        yield _job(bench, size, counts)


def _job(bench: Bench, size: tuple[int, int], counts: list[int]) -> Job:
    precision = "fp32" if bench.kind == "cpu" else chosen("fused", bench.device)
    width, height = size
    cases: dict[str, Parameters] = {}
    for count in counts:
        name = f"{count} process{'es' * (count > 1)} {width}x{height}"
        cases[name] = {
            **bench.parameters(size, engine="fused", precision=precision),
            "history": _HISTORY, "processes": count, "threads": 1,
        }  # fmt: skip

    def measured(names: Collection[str]) -> Iterator[Case]:
        with scratch_folder("stylebench-scaling-") as folder:
            settings = bench.settings(
                size=max(size), engine="fused", precision=precision, history=_HISTORY
            )
            runs = _Runs(bench, settings, size, folder, cases)
            yield from isolate_each(cases, runs.case, names)

    return Job(cases, measured)


@dataclass
class _Runs:
    """The runs of one picture."""

    bench: Bench
    settings: Settings
    size: tuple[int, int]
    folder: Path
    cases: Mapping[str, Parameters]
    _alone: Mapping[str, Tensor] | None = None
    _checks: tuple[RecordedCheck, ...] = ()

    def case(self, name: str) -> Case:
        """Run ``name``, and hold it against one process, which is held against the oracle.

        Raises:
            ImpossibleTime: an iteration took less than its convolutions can.
        """
        count = int(str(self.cases[name]["processes"]))
        alone = self._one_process()
        self.bench.progress(name)
        ran = alone if count == 1 else self._ran(count)
        checks = [*self._checks, *_against(ran, alone, self.settings.precision)]
        if not passed(checks):
            wrong = ", ".join(check.what for check in checks if not check.passed)
            note = f"outside the tolerance: {wrong}; no time is kept"
            return Case(name, self.cases[name], "parity failed", note, Parity(ORACLE, checks))
        seconds = ran["seconds"].tolist()
        self._check_bound(median(seconds), count, name)
        speedup = median(alone["seconds"].tolist()) / median(seconds)
        return Case(
            name=name,
            parameters=self.cases[name],
            note="what else ran on the machine cannot be told from the other processes",
            parity=Parity(ORACLE, checks),
            timing=timing("perf_counter", seconds, warmup=ITERATIONS),
            values={
                "times one process": speedup,
                "efficiency": speedup / count,
                # which others on the machine hardly disturb
                "efficiency by processor time": float(alone["processor"] / ran["processor"]),
                "bytes sent an iteration": float(ran["sent"]),
            },
        )

    def _one_process(self) -> Mapping[str, Tensor]:
        if self._alone is None:
            sources_of = {"content": self.bench.content, "style": self.bench.style}
            for name, picture in sources_of.items():
                rgb = load_image(picture(*self.size)).rgb
                save_picture(self.folder / f"{name}.png", to_pil(rgb))
            self.bench.progress("evaluating the oracle")
            inputs = self.bench.inputs(self.size, self.settings)
            gate = ParityGate(inputs, self.settings)
            engine = build_problem(inputs, self.settings).engine
            self._checks = tuple(gate.checks(engine, self.settings.precision))
            self.bench.progress("one process")
            self._alone = self._ran(1)
        return self._alone

    def _check_bound(self, seconds: float, count: int, name: str) -> None:
        """Refuse a time that all threads or GPUs together could not reach."""
        threads = 1 if self.bench.kind == "cuda" else torch.get_num_threads()
        seconds *= max(1.0, count / threads)
        width, height = self.size
        stack = self.bench.conv_stack(self.settings)
        bound = iteration_lower_bound(
            self.bench.roofline, stack, self.settings.precision, (height, width)
        )
        bound.check(seconds, name)

    def _ran(self, count: int) -> Mapping[str, Tensor]:
        """The outcome of so many processes."""
        plan, weights = self.bench.plan, self.bench.options.weights
        weights = str(Path(weights).resolve()) if Path(weights).is_file() else weights
        settings = replace(self.settings, weights=weights, distributed=count > 1)
        pictures = self.folder / "content.png", self.folder / "style.png"
        order = ScaledRun(*pictures, settings, plan.seconds, plan.least, plan.most)
        (self.folder / RUN).write_bytes(pickle.dumps(order))
        command = [sys.executable, "-m", "stylebench.bench.workloads.scaled_run", str(self.folder)]
        with ExitStack() as stack:
            started = [
                stack.enter_context(
                    child_process(
                        command, env={**os.environ, **sources(), **environment},
                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                    )
                )
                for environment in _environments(count)
            ]  # fmt: skip
            said = [process.communicate(timeout=_LIMIT)[1] for process in started]
        for process, text in zip(started, said, strict=True):
            if process.returncode:
                reason = str(text).strip().splitlines()[-1:] or ["no word"]
                raise RuntimeError(f"a process ended with {process.returncode}: {reason[0]}")
        ran: dict[str, Tensor] = torch.load(self.folder / RAN)
        return ran


def _against(
    ran: Mapping[str, Tensor], alone: Mapping[str, Tensor], precision: str
) -> list[RecordedCheck]:
    """The checks of several processes against one, whose sums are rounded otherwise."""
    rounding = torch.finfo(PRECISIONS[precision].dtype).eps
    allowed = max(_GRADIENT, rounding)
    gradient, expected = ran["gradient"].double(), alone["gradient"].double()
    error = float((gradient - expected).norm() / expected.norm())
    losses = float(((ran["losses"] - alone["losses"]) / alone["losses"]).abs().max())
    terms = loss_error(ran["terms"].double(), alone["terms"].double())
    what = f"losses of {ITERATIONS} iterations in fp64 against one process"
    return [
        RecordedCheck.of("loss against one process", terms, allowed),
        RecordedCheck.of("gradient against one process", error, allowed),
        RecordedCheck.of(what, losses, _TRAJECTORY),
    ]


def _environments(count: int) -> list[dict[str, str]]:
    """The environment of each of so many processes, as torchrun sets it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
    }  # fmt: skip
    return [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
