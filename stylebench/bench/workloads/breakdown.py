"""Breakdown of one iteration's time by part, from a profile of its operators."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from stylebench.bench.workloads.timed_run import TimedRun

#: Part -> what the names of its operators and kernels contain; the first that matches counts.
_PARTS: Mapping[str, re.Pattern[str]] = {
    "optimizer": re.compile(r"stylebench optimizer|lbfgs", re.IGNORECASE),
    "convolutions": re.compile(
        r"conv|bias_relu|fprop|dgrad|wgrad|winograd|implicit_gemm|cudnn", re.IGNORECASE
    ),
    "pooling": re.compile(r"pool", re.IGNORECASE),
    # Not every operator of stylekernels: the image's way in and the log of losses are the rest.
    "style": re.compile(
        r"style_|content_|tv_|gram|tap_|bmm|matmul|::mm$|addmm|gemm|einsum", re.IGNORECASE
    ),
}
REST = "rest"
_REGION = "stylebench optimizer"


def breakdown(timed_run: TimedRun, median: float) -> dict[str, float]:
    """Part -> seconds of one iteration of ``timed_run``, adding up to ``median``.

    The run continues from its current state, with its full history, but operator by operator: a
    captured graph shows none of its operators. One iteration is profiled, after a warm one. A
    profile slows iterations down, so only its proportions are used. An operator counts with the
    outermost one around it that names a part: the product inside a style tap is the style's.
    """

    def iterate() -> None:
        terms, gradient = timed_run.engine.loss_and_grad(timed_run.image)
        with record_function(_REGION):
            timed_run.optimizer.step(gradient, terms.total)

    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler logs to stderr
    on_gpu = timed_run.image.is_cuda
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    iterate()
    with profile(activities=activities) as profiled:
        iterate()
        if on_gpu:
            torch.cuda.synchronize(timed_run.image.device)
    return scaled(_sums(profiled.events() or [], on_gpu), median)


def part_of(names: Iterable[str]) -> str:
    """The part that an operator belongs to, given its name and those around it, outermost first."""
    for name in names:
        for part, pattern in _PARTS.items():
            if pattern.search(name):
                return part
    return REST


def scaled(sums: Mapping[str, float], total: float) -> dict[str, float]:
    """Proportions of ``sums`` as parts of ``total``, in the order in which parts are shown."""
    whole = sum(sums.values())
    if not whole:
        return {}
    order = ("convolutions", "style", "pooling", "optimizer", REST)
    return {part: sums[part] / whole * total for part in order if sums.get(part)}


def _sums(events: Iterable[Any], on_gpu: bool) -> dict[str, float]:
    sums: dict[str, float] = {}
    for event in events:
        # Kernels hang below the operators that launched them, whose device time holds theirs.
        own = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        if own > 0 and event.device_type.name == "CPU":
            part = part_of(_ancestry(event))
            sums[part] = sums.get(part, 0.0) + own
    return sums


def _ancestry(event: Any) -> list[str]:
    names = []
    while event is not None:
        names.append(event.name)
        event = event.cpu_parent
    return names[::-1]
