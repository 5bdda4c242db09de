"""Losses and max pooling with their gradients, by autograd as a user calls them.

``eager`` is the operator's ``naive`` formula with torch's autograd; in fp64 it is the oracle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

import stylekernels
from stylebench.bench.workloads.tasks import Formulation, Outputs, Task, eager_and_compiled
from stylekernels.ops.pointwise.naive import content_loss
from stylekernels.ops.pool.naive import relu_max_pool2d
from stylekernels.ops.tv.naive import tv_loss
from stylekernels.tuning.shapes import VGG

Loss = Callable[..., Tensor]


def loss_tasks(size: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Iterator[Task]:
    """Yield content loss, total variation and max pooling, each with its gradient.

    Args:
        size: (height, width) of the image, px.
        dtype: of the operands, which are channels-last and the same every time.
        device: of the operands.
    """
    rows: list[tuple[str, str, Loss, Loss, int]] = [
        ("content", "relu4_1", plain_content, _content, 2),
        ("tv", "image", plain_tv, _tv, 1),
        ("max pool", "relu1_1", plain_max_pool, _max_pool, 1),
    ]
    for name, layer, plain, ours, count in rows:
        if name == "tv" and dtype != torch.float32:
            continue  # the image is never narrower
        operands = _drawn([_shape(name, size)] * count, dtype, device)
        eager = _with_gradient(plain)
        yield Task(
            name,
            layer,
            eager_and_compiled(eager, eager, _with_gradient(ours), baddbmm=False)
            | {"compiled": _compiled(plain)},
            operands,
            _exact(eager),
            # every operand is read, and the gradient of the first is written
            sum(x.nbytes for x in operands) + operands[0].nbytes,
        )


def loss_shape(name: str, size: tuple[int, int]) -> tuple[int, int]:
    """Channels and positions of the loss's operand, or of the ``image_tasks``'."""
    channels, height, width = _shape(name, size)
    return channels, height * width


def _shape(name: str, size: tuple[int, int]) -> tuple[int, int, int]:
    """(channels, height, width) of the loss's operand."""
    if name in ("tv", "image"):
        return (3, *size)
    channels, shrunk = VGG[{"content": 3, "max pool": 0}[name]]
    return channels, size[0] // shrunk, size[1] // shrunk


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


def _with_gradient(loss: Loss) -> Formulation:
    """The loss, and its gradient with respect to the first operand."""

    def evaluate(x: Tensor, *others: Tensor) -> Outputs:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            value = loss(leaf, *others)
        return value.detach(), *torch.autograd.grad(value, leaf)

    return evaluate


def _compiled(loss: Loss) -> Callable[[], Formulation]:
    return lambda: _with_gradient(torch.compile(loss, dynamic=False))


def _exact(evaluate: Formulation) -> Formulation:
    return lambda *operands: evaluate(*(x.double() for x in operands))


def plain_content(x: Tensor, target: Tensor) -> Tensor:
    """Squared distance."""
    return content_loss(x, target, 1.0)


def plain_tv(x: Tensor) -> Tensor:
    """Sum of absolute differences of neighbors."""
    return tv_loss(x, 1.0)


def plain_max_pool(x: Tensor) -> Tensor:
    """ReLU and 2 x 2 maximum, summed."""
    return relu_max_pool2d(x).sum()


def _content(x: Tensor, target: Tensor) -> Tensor:
    return stylekernels.content_loss(x, target, 1.0)


def _tv(x: Tensor) -> Tensor:
    return stylekernels.tv_loss(x, 1.0)


def _max_pool(x: Tensor) -> Tensor:
    return stylekernels.relu_max_pool2d(x).sum()
