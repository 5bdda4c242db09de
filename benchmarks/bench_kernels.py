"""The style kernels against plain torch, layer by layer, parity first.

    pytest benchmarks/bench_kernels.py -k "cpu and tap" --benchmark-columns=median,iqr,rounds

The formulations are ``stylebench.bench.workloads.tap_tasks``'s. Each is checked against fp64 before
it is timed and again after; on a GPU no cache holds its operands.
"""

import pytest
import torch

from stylebench.bench.workloads.formulations import candidate
from stylebench.bench.workloads.tap_tasks import tap_tasks
from stylebench.model.precision import PRECISIONS

SIZE = (384, 512)  # height, width of the image


@pytest.mark.parametrize("name", ["eager", "baddbmm", "compiled", "stylekernels"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("layer", ["relu1_1", "relu2_1", "relu4_1"])
@pytest.mark.parametrize("kind", ["style forward", "tap backward", "pool"])
def test_kernel(benchmark, timed, device, kind, layer, precision, name):
    benchmark.group = f"{kind} {device} {layer} {precision}"
    tasks = tap_tasks(layer, SIZE, PRECISIONS[precision].dtype, torch.device(device))
    task = next(task for task in tasks if task.name == kind)
    if name not in task.formulations:
        pytest.skip(f"{kind} has no product")
    with torch.no_grad():
        run = task.formulations[name]()
        timed(
            device,
            candidate(run, task, torch.device(device)),
            lambda: task.checks(run),
            bytes=task.moved,
            flops=task.flops,
        )
