"""A run in one or several processes, for the clock: what each of them does.

    python -m stylebench.bench.workloads.scaled_run FOLDER

with torchrun's environment. The folder has ``run.pickle``; rank 0 writes ``ran.pt`` there.
"""

from __future__ import annotations

import pickle
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from stylebench.bench.measure.clocks import synchronize
from stylebench.bench.workloads.timed_run import TimedRun
from stylebench.processes.joining import joined
from stylebench.processes.ranks import Ranks
from stylebench.transfer.device import choose_device
from stylebench.transfer.inputs import Inputs
from stylebench.transfer.prepare import load_inputs
from stylebench.transfer.problem import build_problem
from stylebench.transfer.settings import Settings

RUN, RAN = "run.pickle", "ran.pt"
ITERATIONS = 20  # of the trajectory that is held against one process's, and of the warm-up


@dataclass(frozen=True)
class ScaledRun:
    """The orders of all processes.

    Attributes:
        content: an image file.
        style: likewise.
        settings: of the run.
        seconds: of sampling.
        least: samples, however long they take.
        most: samples.
    """

    content: Path
    style: Path
    settings: Settings
    seconds: float
    least: int
    most: int


def main(folder: Path) -> None:
    """Run what the folder orders, and write down what came of it."""
    order: ScaledRun = pickle.loads((folder / RUN).read_bytes())  # our own
    device = choose_device(order.settings.device)
    if order.settings.distributed:
        dist.init_process_group("gloo" if device.type == "cpu" else "nccl")
    if device.type == "cpu":
        torch.set_num_threads(1)
    with joined(order.settings.distributed, device) as ranks, ranks.apart():
        ran = _run(order, ranks, device)
    if ranks.first:
        torch.save(ran, folder / RAN)


def _run(order: ScaledRun, ranks: Ranks, device: torch.device) -> dict[str, Tensor]:
    settings = order.settings
    inputs = load_inputs(order.content, order.style, settings)
    losses = _losses_in_fp64(inputs, settings, ranks)
    problem = build_problem(inputs, settings, last=True, ranks=ranks)
    terms, gradient = problem.engine.loss_and_grad(problem.image)
    whole = problem.bands.whole(gradient)
    timed_run = TimedRun(problem, settings)
    timed_run.advance(ITERATIONS)
    first = _seconds(timed_run, device)
    wanted = torch.tensor([order.seconds / first], device=device)
    count = min(order.most, max(order.least, int(ranks.of_first(wanted))))
    sent, processor = ranks.sent, time.process_time()
    samples = [_seconds(timed_run, device) for _ in range(count)]
    sent, processor = ranks.sent - sent, time.process_time() - processor
    of_all = ranks.sum(torch.tensor(processor / count, dtype=torch.float64, device=device))
    return {
        "terms": terms.values.cpu(),
        "gradient": whole.cpu(),
        "losses": losses,
        "seconds": torch.tensor(samples, dtype=torch.float64),
        "processor": of_all.cpu(),
        "sent": torch.tensor(sent / count, dtype=torch.float64),
    }


def _losses_in_fp64(inputs: Inputs, settings: Settings, ranks: Ranks) -> Tensor:
    """The losses of the first iterations: in fp32 a run's own rounding soon changes its path."""
    wide = replace(settings, precision="fp64")
    problem = build_problem(inputs, wide, ranks=ranks)
    if problem.bands.ranks is not ranks:
        raise ValueError(f"{ranks.size} processes cannot share {problem.shape[2]} rows")
    timed_run = TimedRun(problem, wide)
    losses = []
    for _ in range(ITERATIONS):
        timed_run.advance(1)
        losses.append(timed_run.logged().sum())
    return torch.stack(losses)


def _seconds(timed_run: TimedRun, device: torch.device) -> float:
    synchronize(device)
    began = time.perf_counter()
    timed_run.advance(1)
    timed_run.logged()
    return time.perf_counter() - began


if __name__ == "__main__":
    main(Path(sys.argv[1]))
