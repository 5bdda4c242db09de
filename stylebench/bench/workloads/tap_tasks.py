"""The style tap and the pooling at each layer, as plain PyTorch and as stylekernels do them.

``eager`` is the formulation of the public implementations, ``baddbmm`` the strongest plain one (the
difference from the target comes out of the product), ``compiled`` the strongest one compiled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

import stylekernels
from stylebench.bench.workloads.tasks import Outputs, Task, eager_and_compiled
from stylekernels.workload import VGG

#: Layer -> (channels, by how much it is smaller than the image).
LAYERS: Mapping[str, tuple[int, int]] = {
    f"relu{block}_1": shape for block, shape in enumerate(VGG, start=1)
}


def tap_shape(layer: str, size: tuple[int, int]) -> tuple[int, int]:
    """Channels and positions at ``layer`` of an image of ``size`` (height, width)."""
    channels, shrunk = LAYERS[layer]
    return channels, (size[0] // shrunk) * (size[1] // shrunk)


def gram_flops(channels: int, positions: int) -> float:
    """Of the products of a Gram matrix: it is symmetric, so half of them need no computing."""
    return 1.0 * channels * (channels + 1) * positions


def tap_tasks(
    layer: str, size: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> Iterator[Task]:
    """Tap forward, tap backward and pooling at ``layer`` of an image of ``size`` (height, width).

    Operands are drawn anew for every call, the same numbers every time.
    """
    channels, shrunk = LAYERS[layer]
    shape = (1, channels, size[0] // shrunk, size[1] // shrunk)
    generator = torch.Generator().manual_seed(0)
    z, above = (
        torch.randn(shape, generator=generator).to(device, dtype, memory_format=torch.channels_last)
        for _ in range(2)
    )
    target = torch.eye(channels, device=device)
    grams, products = gram_flops(channels, z[0, 0].numel()), 2.0 * channels * z.numel()
    forward = eager_and_compiled(eager_forward, strong_forward, _forward)
    yield Task("tap forward", layer, forward, (z, target), exact_forward, 2 * z.nbytes, grams)
    y, _, s = exact_forward(z, target)
    operands = (above, y.to(dtype, memory_format=torch.channels_last), s.float()[None])
    backward = eager_and_compiled(eager_backward, strong_backward, _backward)
    yield Task("tap backward", layer, backward, operands, exact_backward, 3 * z.nbytes, products)
    pool = eager_and_compiled(plain_pool, plain_pool, _pool, baddbmm=False)
    if min(shape[2:]) > 1:
        yield Task("pool", layer, pool, (z,), exact_pool, z.nbytes * 5 // 4)


def exact_forward(z: Tensor, target: Tensor) -> Outputs:
    """ReLU, the loss, and S = (4 / M) (G - A), in fp64."""
    y = torch.relu(z.double())
    x = y.flatten(2)[0]
    d = x @ x.mT / x.shape[1] - target.double()
    return y, d.square().sum(), 4.0 / x.shape[1] * d


def exact_backward(above: Tensor, y: Tensor, s: Tensor) -> Outputs:
    """The gradient of what went into the ReLU, in fp64."""
    x = y.double().flatten(2)[0]
    total = above.double().flatten(2)[0] + s[0].double() @ x
    return ((total * (x > 0)).view(y.shape),)


def exact_pool(z: Tensor) -> Outputs:
    """ReLU and 2 x 2 average, in fp64."""
    return plain_pool(z.double())


def _rows(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def eager_forward(z: Tensor, target: Tensor) -> Outputs:
    """As the public implementations have it."""
    y = F.relu(z)
    x = y.flatten(2)
    d = torch.bmm(x, x.mT).div(x.shape[2]) - target
    return y, d.square().sum(), d * (4.0 / x.shape[2])


def eager_backward(above: Tensor, y: Tensor, s: Tensor) -> Outputs:
    """Likewise."""
    return ((above + torch.bmm(s.to(y.dtype), y.flatten(2)).view_as(y)) * (y > 0),)


def strong_forward(z: Tensor, target: Tensor) -> Outputs:
    """The Gram matrix and the difference from the target as one product."""
    y = F.relu(z)
    x = _rows(y)
    d = torch.baddbmm(target.to(z.dtype)[None], x.mT, x, beta=-1, alpha=1 / x.shape[1]).float()
    return y, d.square().sum(), d * (4.0 / x.shape[1])


def strong_backward(above: Tensor, y: Tensor, s: Tensor) -> Outputs:
    """The gradient's product and sum as one, the mask in one operator."""
    total = torch.baddbmm(_rows(above), _rows(y), s.to(y.dtype))
    total = torch.ops.aten.threshold_backward(total, _rows(y), 0)
    return (total.unflatten(1, y.shape[2:]).permute(0, 3, 1, 2),)


def plain_pool(z: Tensor) -> Outputs:
    """ReLU and 2 x 2 average."""
    return (F.avg_pool2d(F.relu(z), 2),)


def _forward(z: Tensor, target: Tensor) -> Outputs:
    y, losses, s = stylekernels.style_tap_forward(z, target, 1.0)
    return y, losses[0], s


def _backward(above: Tensor, y: Tensor, s: Tensor) -> Outputs:
    return (stylekernels.style_tap_backward(above, y, s),)


def _pool(z: Tensor) -> Outputs:
    return (stylekernels.relu_avg_pool2d(z),)
