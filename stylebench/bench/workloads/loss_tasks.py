"""Losses and max pooling with their gradients, by autograd as a user calls them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

import stylekernels
from stylebench.bench.workloads.tap_tasks import gram_flops
from stylebench.bench.workloads.tasks import Formulation, Outputs, Task, eager_and_compiled
from stylekernels.workload import VGG

Loss = Callable[..., Tensor]


def loss_tasks(size: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Iterator[Task]:
    """Content loss, total variation, max pooling, and all style losses as one group.

    ``size`` is the image's (height, width); operands are channels-last, the same every time.
    """
    layers = _layers(size)
    content = layers[3]
    grams = sum(gram_flops(c, h * w) + 2.0 * c * c * h * w for c, h, w in layers)
    rows: list[tuple[str, str, Loss, Loss, Sequence[tuple[int, int, int]], int, float]] = [
        ("content", "relu4_1", plain_content, _content, [content, content], 1, 0.0),
        ("tv", "image", plain_tv, _tv, [(3, *size)], 1, 0.0),
        ("max pool", "relu1_1", plain_max_pool, _max_pool, [layers[0]], 1, 0.0),
        ("group", "all", plain_group, _group, layers, len(layers), grams),
    ]
    for name, layer, plain, ours, shapes, wanted, flops in rows:
        if name == "tv" and dtype != torch.float32:
            continue  # the image is never narrower
        operands = _drawn(shapes, dtype, device)
        eager = _with_gradient(plain, wanted)
        yield Task(
            name,
            layer,
            eager_and_compiled(eager, eager, _with_gradient(ours, wanted), baddbmm=False)
            | {"compiled": _compiled(plain, wanted)},
            operands,
            _exact(eager),
            _moved(operands, wanted),
            flops,
        )


def loss_shape(name: str, size: tuple[int, int]) -> tuple[int | None, int]:
    """Channels and positions of the loss's operand; of the group none, and the image's."""
    height, width = size
    shapes = {"content": _layers(size)[3], "tv": (3, *size), "max pool": _layers(size)[0]}
    channels, height, width = shapes.get(name, (None, height, width))
    return channels, height * width


def _layers(size: tuple[int, int]) -> list[tuple[int, int, int]]:
    """(channels, height, width) of each style layer."""
    return [(channels, size[0] // shrunk, size[1] // shrunk) for channels, shrunk in VGG]


def _moved(operands: Sequence[Tensor], wanted: int) -> int:
    """Bytes: every operand is read, and a gradient written of the first ``wanted``."""
    return sum(x.nbytes for x in operands) + sum(x.nbytes for x in operands[:wanted])


def _drawn(
    shapes: Sequence[tuple[int, int, int]], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn((1, *shape), generator=generator).to(
            device, dtype, memory_format=torch.channels_last
        )
        for shape in shapes
    )


def _with_gradient(loss: Loss, wanted: int) -> Formulation:
    """The loss and its gradients with respect to the first ``wanted`` operands."""

    def evaluate(*operands: Tensor) -> Outputs:
        with torch.enable_grad():
            leaves = [x.detach().requires_grad_(i < wanted) for i, x in enumerate(operands)]
            value = loss(*leaves)
        return value.detach(), *torch.autograd.grad(value, leaves[:wanted])

    return evaluate


def _compiled(loss: Loss, wanted: int) -> Callable[[], Formulation]:
    return lambda: _with_gradient(torch.compile(loss, dynamic=False), wanted)


def _exact(evaluate: Formulation) -> Formulation:
    return lambda *operands: evaluate(*(x.double() for x in operands))


def plain_content(x: Tensor, target: Tensor) -> Tensor:
    """Squared distance."""
    return (x - target).square().sum()


def plain_tv(x: Tensor) -> Tensor:
    """Sum of absolute differences of neighbours."""
    return x.diff(dim=2).abs().sum() + x.diff(dim=3).abs().sum()


def plain_max_pool(x: Tensor) -> Tensor:
    """ReLU and 2 x 2 maximum, summed."""
    return F.max_pool2d(F.relu(x), 2).sum()


def plain_group(*xs: Tensor) -> Tensor:
    """Style losses against the identity, summed."""
    losses = []
    for x in xs:
        rows = x.flatten(2)
        gram = torch.bmm(rows, rows.mT) / rows.shape[2]
        losses.append((gram - torch.eye(x.shape[1], device=x.device, dtype=x.dtype)).square().sum())
    return torch.stack(losses).sum()


def _content(x: Tensor, target: Tensor) -> Tensor:
    return stylekernels.content_loss(x, target, 1.0)


def _tv(x: Tensor) -> Tensor:
    return stylekernels.tv_loss(x, 1.0)


def _max_pool(x: Tensor) -> Tensor:
    return stylekernels.relu_max_pool2d(x).sum()


def _group(*xs: Tensor) -> Tensor:
    targets = [torch.eye(x.shape[1], device=x.device) for x in xs]
    return stylekernels.style_losses(xs, targets, [1.0] * len(xs)).sum()
