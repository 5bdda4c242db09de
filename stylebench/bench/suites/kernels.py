"""``kernels``: each style kernel against plain and compiled PyTorch, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch

from stylebench.bench.measure.timing import LowerBound
from stylebench.bench.records.record import Case, Parity, RecordedCheck, Timing
from stylebench.bench.suites.base import Bench, Job, Parameters, isolate_each, optional
from stylebench.bench.workloads.formulations import time_in_situ, time_task
from stylebench.bench.workloads.image_tasks import image_tasks
from stylebench.bench.workloads.loss_tasks import loss_shape, loss_tasks
from stylebench.bench.workloads.parity_gate import passed
from stylebench.bench.workloads.tap_tasks import LAYERS, tap_shape, tap_tasks
from stylebench.bench.workloads.tasks import ORACLE, Formulation, Task
from stylebench.model.precision import PRECISIONS, exact_arithmetic

_SIZES = {"cpu": [(512, 384)], "cuda": [(512, 512), (2048, 2048)]}
_QUICK_SIZES = {"cpu": [(64, 48)], "cuda": [(512, 512)]}
_QUICK_LAYERS = ("relu1_1", "relu4_1")
_TAP_TASKS = ("style forward", "tap backward", "pool")
_IMAGE_TASKS = ("dgrad", "tap dgrad")
_LOSS_TASKS = ("content", "tv", "max pool")
_FORMULATIONS = {
    "style forward": ("eager", "baddbmm", "compiled", "stylekernels"),
    "tap backward": ("eager", "baddbmm", "compiled", "stylekernels"),
    "tap dgrad": ("eager", "baddbmm", "compiled", "stylekernels"),
}
_OTHERS = ("eager", "compiled", "stylekernels")


class Kernels:
    """Style, pooling and losses; formulations of one task are interleaved."""

    name = "kernels"

    def jobs(self, bench: Bench) -> Iterator[Job]:
        """One job a task, layer, precision and size."""
        quick = bench.options.quick
        for width, height in bench.sizes(*(_QUICK_SIZES if quick else _SIZES)[bench.kind]):
            size = height, width
            for precision in bench.precisions("fused"):
                dtype = PRECISIONS[precision].dtype
                for layer in _QUICK_LAYERS if quick else LAYERS:
                    taps = partial(tap_tasks, layer, size, dtype, bench.device)
                    for name in _tap_tasks(layer, bench.kind):
                        yield _job(bench, name, layer, precision, size, _find(name, taps))
                losses = partial(loss_tasks, size, dtype, bench.device)
                for name in _LOSS_TASKS:
                    if name != "tv" or precision == "fp32":
                        yield _job(bench, name, "", precision, size, _find(name, losses))
                images = partial(image_tasks, size, dtype, bench.device)
                yield _job(bench, "image", "", precision, size, _find("image", images))


def _tap_tasks(layer: str, kind: str) -> tuple[str, ...]:
    """Names; a CPU has no kernel for the image's gradient."""
    return _TAP_TASKS + (_IMAGE_TASKS if (layer, kind) == ("relu1_1", "cuda") else ())


def _find(name: str, tasks: Callable[[], Iterator[Task]]) -> Callable[[], Task]:
    def find() -> Task:
        for task in tasks():
            if task.name == name:
                return task
        raise ValueError(f"the layer is too small for {name}")

    return find


def _job(
    bench: Bench,
    task_name: str,
    layer: str,
    precision: str,
    size: tuple[int, int],
    make: Callable[[], Task],
) -> Job:
    height, width = size
    channels, positions = loss_shape(task_name, size) if not layer else tap_shape(layer, size)
    label = " ".join(filter(None, (task_name, layer, precision, f"{width}x{height}")))
    formulations: tuple[str, ...] = _FORMULATIONS.get(task_name, _OTHERS)
    if bench.options.quick:
        formulations = tuple(each for each in formulations if each != "compiled")
    cases: dict[str, Parameters] = {
        f"{label} {implementation}": {
            **bench.common(), "kernel": task_name, "layer": layer or None, "precision": precision,
            "width": width, "height": height, "channels": channels, "positions": positions,
            "implementation": implementation,
        }
        for implementation in formulations
    }  # fmt: skip

    def run(names: Collection[str]) -> Iterator[Case]:
        torch.compiler.reset()  # else the ninth shape of a function is quietly run eagerly
        with exact_arithmetic(), torch.no_grad():
            yield from _Measured(bench, make(), precision, cases).cases_of(names)

    return Job(cases, run)


@dataclass
class _Measured:
    bench: Bench
    task: Task
    precision: str
    cases: dict[str, Parameters]

    def cases_of(self, names: Collection[str]) -> Iterator[Case]:
        ready: dict[str, Formulation] = {}
        before: dict[str, list[RecordedCheck]] = {}

        def prove(name: str) -> Case | None:
            run = self.task.formulations[str(self.cases[name]["implementation"])]()
            before[name] = self.task.checks(run)
            if not passed(before[name]):
                return self._refused(name, before[name])
            ready[name] = run
            return None

        yield from isolate_each(self.cases, prove, names)
        if not ready:
            return
        timings = time_task(self.task, ready, self.bench.device, self.bench.plan)
        in_situ, note = self._in_situ(ready)

        def measured(name: str) -> Case:
            checks = [*before[name], *self.task.checks(ready[name], "after the timed loop")]
            return self._case(name, checks, timings[name], in_situ.get(name), note)

        yield from isolate_each(self.cases, measured, ready)

    def _in_situ(self, ready: Mapping[str, Formulation]) -> tuple[Mapping[str, Timing], str | None]:
        if self.bench.kind != "cuda":
            return {}, None
        return optional(
            "time in situ",
            lambda: time_in_situ(self.task, ready, self.bench.device, self.bench.plan),
            {},
        )

    def _refused(self, name: str, checks: list[RecordedCheck]) -> Case:
        block = Parity(ORACLE, checks)
        return Case(name, self.cases[name], status="parity failed", parity=block)

    def _case(
        self,
        name: str,
        checks: list[RecordedCheck],
        timing: Timing,
        in_situ: Timing | None,
        remark: str | None,
    ) -> Case:
        if not passed(checks):
            return self._refused(name, checks)
        task, roofline = self.task, self.bench.roofline
        bound = LowerBound.of(
            task.flops, roofline.matmul(self.precision).value, task.moved, roofline.copy().value
        )
        if self.bench.kind == "cuda":  # operands of a CPU's may lie in its cache
            bound.check(timing.median, name)
        values = {"GB/s": task.moved / timing.median / 1e9}
        if task.flops:
            values["TFLOP/s"] = task.flops / timing.median / 1e12
        if in_situ is not None:
            values["in situ seconds"] = in_situ.median
        return Case(
            name=name,
            parameters=self.cases[name],
            note=remark,
            parity=Parity(ORACLE, checks),
            timing=timing,
            in_situ=in_situ,
            flops=task.flops or None,
            bytes=task.moved,
            roof_share=bound.seconds / timing.median,
            values=values,
        )


jobs = Kernels().jobs
