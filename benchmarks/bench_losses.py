"""Losses and max pooling with their gradients, by autograd as a user calls them; parity first.

    pytest benchmarks/bench_losses.py --benchmark-columns=median,iqr,rounds

The formulations are ``stylebench.bench.workloads.loss_tasks``'s.
"""

import pytest
import torch

from stylebench.bench.workloads.formulations import candidate
from stylebench.bench.workloads.loss_tasks import loss_tasks

SIZE = (384, 512)  # height, width of the image


@pytest.mark.parametrize("name", ["eager", "compiled", "stylekernels"])
@pytest.mark.parametrize("loss", ["content", "tv", "max pool"])
def test_loss_and_gradient(benchmark, timed, device, loss, name):
    benchmark.group = f"{loss} {device}"
    tasks = loss_tasks(SIZE, torch.float32, torch.device(device))
    task = next(task for task in tasks if task.name == loss)
    run = task.formulations[name]()
    timed(
        device,
        candidate(run, task, torch.device(device)),
        lambda: task.checks(run),
        bytes=task.moved,
    )
