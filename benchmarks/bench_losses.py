"""Losses and max pooling with their gradients, by autograd as a user calls them; parity first.

    pytest benchmarks/bench_losses.py --benchmark-columns=median,iqr,rounds

`eager` is the plain formula, `compiled` the same under torch.compile.
"""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import stylekernels
from benchmarks.timing import measure, parity, roof

__all__ = ["roof"]  # a fixture

DEVICES = ("cpu", *(("cuda",) if torch.cuda.is_available() else ()))
SHAPES = {"content": (512, 48, 64), "tv": (3, 384, 512), "max pool": (64, 384, 512)}
GROUP = ((64, 192, 256), (128, 96, 128), (256, 48, 64), (512, 24, 32), (512, 12, 16))
Loss = Callable[..., Tensor]


def plain_content(x: Tensor, target: Tensor) -> Tensor:
    return (x - target).square().sum()


def plain_tv(x: Tensor) -> Tensor:
    return x.diff(dim=2).abs().sum() + x.diff(dim=3).abs().sum()


def plain_max_pool(x: Tensor) -> Tensor:
    return F.max_pool2d(F.relu(x), 2).sum()


def plain_group(*xs: Tensor) -> Tensor:
    losses = []
    for x in xs:
        rows = x.flatten(2)
        gram = torch.bmm(rows, rows.mT) / rows.shape[2]
        losses.append((gram - torch.eye(x.shape[1], device=x.device, dtype=x.dtype)).square().sum())
    return torch.stack(losses).sum()


def our_group(*xs: Tensor) -> Tensor:
    targets = [torch.eye(x.shape[1], device=x.device) for x in xs]
    return stylekernels.style_losses(xs, targets, [1.0] * len(xs)).sum()


LOSSES: dict[str, tuple[Loss, Loss]] = {
    "content": (plain_content, lambda x, target: stylekernels.content_loss(x, target, 1.0)),
    "tv": (plain_tv, lambda x: stylekernels.tv_loss(x, 1.0)),
    "max pool": (plain_max_pool, lambda x: stylekernels.relu_max_pool2d(x).sum()),
    "group": (plain_group, our_group),
}


def operands(loss: str, device: str) -> list[Tensor]:
    """What the loss takes, fp32 channels-last; the first, or all of a group, want gradients."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"group": GROUP, "content": (SHAPES["content"],) * 2}.get(loss, (SHAPES.get(loss),))
    drawn = [torch.randn((1, *shape), generator=generator) for shape in shapes]
    return [x.to(device, memory_format=torch.channels_last) for x in drawn]


def with_gradient(function: Loss, given: list[Tensor], wanted: int) -> tuple[Tensor, ...]:
    leaves = [x.detach().requires_grad_(i < wanted) for i, x in enumerate(given)]
    loss = function(*leaves)
    return loss.detach(), *torch.autograd.grad(loss, leaves[:wanted])


@pytest.mark.parametrize("name", ["eager", "compiled", "stylekernels"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("device", DEVICES)
def test_loss_and_gradient(benchmark, request, device, loss, name):
    benchmark.group = f"{loss} {device}"
    plain, ours = LOSSES[loss]
    function = {"eager": plain, "compiled": torch.compile(plain), "stylekernels": ours}[name]
    given = operands(loss, device)
    wanted = len(given) if loss == "group" else 1
    oracle = with_gradient(plain, [x.double() for x in given], wanted)
    naive = with_gradient(plain, given, wanted)

    def run() -> tuple[Tensor, ...]:
        return with_gradient(function, given, wanted)

    moved = 2 * sum(x.nbytes for x in given[:wanted])
    check = lambda: parity(run(), naive, oracle)  # noqa: E731
    measure(benchmark, request, run, check, given[0], moved)
