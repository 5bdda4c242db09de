"""One optimizer step, network left out: LBFGS here against torch.optim.LBFGS, same gradients.

    pytest benchmarks/bench_lbfgs.py --benchmark-group-by=group

Each case first follows torch's optimizer for some steps, and is timed only if it is where torch is.
A step is timed with the history full.
"""

from collections.abc import Callable
from itertools import count

import pytest
import torch
from torch import Tensor

from stylebench.bench.measure.timing import Candidate
from stylebench.bench.records.record import RecordedCheck
from stylebench.bench.workloads.parity_gate import finite
from stylebench.optim.lbfgs import LBFGS

HEIGHT, WIDTH = 384, 512
Step = Callable[[Tensor, Tensor], object]


def ours(x: Tensor, history: int, dtype: torch.dtype) -> Step:
    return LBFGS(x, history, history_dtype=dtype).step


def theirs(x: Tensor, history: int) -> Step:
    optimizer = torch.optim.LBFGS(
        [x], max_iter=1, tolerance_grad=-1, tolerance_change=-1, history_size=history
    )

    def step(grad: Tensor, loss: Tensor) -> object:
        x.grad = grad
        return optimizer.step(lambda: loss)

    return step


def quadratic(device: str) -> tuple[Tensor, Tensor]:
    """Curvatures and a start; the loss is 0.5 x . (curvatures x)."""
    generator = torch.Generator().manual_seed(0)
    curvature = torch.rand(1, 3, HEIGHT, WIDTH, generator=generator) * 2 + 0.1
    return curvature.to(device), torch.randn(1, 3, HEIGHT, WIDTH, generator=generator).to(device)


def descend(step: Step, x: Tensor, curvature: Tensor, iterations: int) -> None:
    for _ in range(iterations):
        grad = curvature * x
        step(grad, 0.5 * (grad * x).sum())


@pytest.mark.parametrize("which", ["torch", "fp32", "bf16"])
@pytest.mark.parametrize("history", [20, 100])
def test_step(benchmark, timed, device: str, history: int, which: str) -> None:  # type: ignore[no-untyped-def]
    dtype = torch.bfloat16 if which == "bf16" else torch.float32
    curvature, start = quadratic(device)
    expected, x = start.clone(), start.clone()
    step = theirs(x, history) if which == "torch" else ours(x, history, dtype)
    descend(theirs(expected, history), expected, curvature, 8)
    descend(step, x, curvature, 8)
    error = float((x - expected).norm() / start.norm())
    followed = RecordedCheck.of(
        "distance from torch after 8", error, 2e-2 if which == "bf16" else 1e-5
    )

    # Gradients with noise never converge, so that every pair is kept until the history is full.
    # They are drawn beforehand: what is timed is the step alone.
    generator = torch.Generator(device).manual_seed(1)
    noise = 0.1 * torch.randn(8, *x.shape, generator=generator, device=device)
    loss = torch.ones((), device=device)
    calls = count()

    def run(times: int) -> None:
        for _ in range(times):
            step(noise[next(calls) % len(noise)], loss)

    run(history + 2)
    benchmark.group = f"L-BFGS step, {device}, history {history}"
    timed(
        device,
        Candidate(run, per_sample=1),
        lambda: [followed, finite("the image", x)],
        relative_error=error,
    )
