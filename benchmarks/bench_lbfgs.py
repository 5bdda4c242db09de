"""One optimiser step, network left out: LBFGS here against torch.optim.LBFGS, same gradients.

    pytest benchmarks/bench_lbfgs.py --benchmark-group-by=group

Each case first follows torch's optimiser for some steps, and is timed only if it is where torch is.
A step is timed with the history full.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stylebench.lbfgs import LBFGS

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
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
@pytest.mark.parametrize("device", DEVICES)
def test_step(benchmark, device: str, history: int, which: str) -> None:  # type: ignore[no-untyped-def]
    dtype = torch.bfloat16 if which == "bf16" else torch.float32
    curvature, start = quadratic(device)
    expected, x = start.clone(), start.clone()
    step = theirs(x, history) if which == "torch" else ours(x, history, dtype)
    descend(theirs(expected, history), expected, curvature, 8)
    descend(step, x, curvature, 8)
    error = float((x - expected).norm() / start.norm())
    assert error < (2e-2 if which == "bf16" else 1e-5)

    # A gradient with noise never converges, so that every pair is kept until the history is full.
    generator = torch.Generator(device).manual_seed(1)

    def arguments() -> tuple[tuple[Tensor, Tensor], dict[str, object]]:
        noise = torch.randn(x.shape, generator=generator, device=device)
        return (torch.addcmul(0.1 * noise, curvature, x), torch.ones((), device=device)), {}

    def timed(grad: Tensor, loss: Tensor) -> None:
        step(grad, loss)
        if device == "cuda":
            torch.cuda.synchronize()

    for _ in range(history + 2):
        timed(*arguments()[0])
    benchmark.group = f"L-BFGS step, {device}, history {history}"
    benchmark.extra_info["relative error"] = error
    benchmark.pedantic(timed, setup=arguments, rounds=15, warmup_rounds=3)
    assert x.isfinite().all()
