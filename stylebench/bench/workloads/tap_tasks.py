"""Style loss, tap gradient and pooling at each layer, and the image's gradient.

Each in plain PyTorch and by stylekernels.

``eager`` is the formulation of the public implementations, ``baddbmm`` the strongest plain one (the
difference from the target comes out of the product), ``compiled`` the strongest one compiled. The
oracle is the operator's ``naive`` formula in fp64.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

import stylekernels
from stylebench.bench.workloads.tasks import Outputs, Task, eager_and_compiled
from stylekernels.ops.dgrad import naive as naive_dgrad
from stylekernels.ops.pool.naive import relu_avg_pool2d
from stylekernels.ops.style import naive
from stylekernels.ops.style.cpu import narrowed
from stylekernels.tuning.shapes import VGG

#: Layer -> (channels, the image's side over the layer's).
LAYERS: Mapping[str, tuple[int, int]] = {
    f"relu{block}_1": shape for block, shape in enumerate(VGG, start=1)
}


def tap_shape(layer: str, size: tuple[int, int]) -> tuple[int, int]:
    """Channels and positions at ``layer`` of an image of ``size`` (height, width)."""
    channels, shrunk = LAYERS[layer]
    return channels, (size[0] // shrunk) * (size[1] // shrunk)


def gram_flops(channels: int, positions: int) -> float:
    """FLOPs of a Gram matrix's products; it is symmetric, so half of them need no computing."""
    return 1.0 * channels * (channels + 1) * positions


def tap_tasks(
    layer: str, size: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> Iterator[Task]:
    """Yield style forward, tap backward and pooling at ``layer`` of an image of ``size``.

    At relu1_1 also the gradient of conv1_1's input, the image, and that with the tap's.

    Operands are drawn anew for every call, the same numbers every time.

    Args:
        layer: a name of ``LAYERS``.
        size: (height, width) of the image, px.
        dtype: of the features.
        device: of all operands.
    """
    channels, shrunk = LAYERS[layer]
    shape = (1, channels, size[0] // shrunk, size[1] // shrunk)
    generator = torch.Generator().manual_seed(0)
    z, above = (
        torch.randn(shape, generator=generator).to(device, dtype, memory_format=torch.channels_last)
        for _ in range(2)
    )
    x, target = torch.relu(z), torch.eye(channels, device=device)
    grams, products = gram_flops(channels, z[0, 0].numel()), 2.0 * channels * z.numel()
    forward = eager_and_compiled(eager_forward, strong_forward, _forward)
    operands = x, target
    yield Task("style forward", layer, forward, operands, exact_forward, x.nbytes, grams, _unscaled)
    s = exact_forward(x, target)[1].float()
    backward = eager_and_compiled(eager_backward, strong_backward, _backward)
    tap = above, x, s, *narrowed(s, dtype)  # as either has it from the forward pass
    yield Task("tap backward", layer, backward, tap, exact_backward, 3 * z.nbytes, products)
    pool = eager_and_compiled(plain_pool, plain_pool, _pool, baddbmm=False)
    if min(shape[2:]) > 1:
        yield Task("pool", layer, pool, (z,), exact_pool, z.nbytes * 5 // 4)

    if layer == "relu1_1":
        weight = torch.randn((channels, 3, 3, 3), generator=generator).to(device, dtype)
        yield from _dgrad_tasks(tap, weight)


def _dgrad_tasks(tap: tuple[Tensor, ...], weight: Tensor) -> Iterator[Task]:
    """The image's gradient from that of conv1_1's output [1, 64, H, W], without a tap and with."""
    above = tap[0]
    plain = eager_and_compiled(plain_dgrad, plain_dgrad, _dgrad, baddbmm=False)
    image = above.nbytes * 3 // above.shape[1]
    products = 2.0 * weight[0].numel() * above.numel()
    moved = above.nbytes + image
    yield Task("dgrad", "relu1_1", plain, (above, weight), exact_dgrad, moved, products)
    tapped = eager_and_compiled(eager_tap_dgrad, strong_tap_dgrad, _tap_dgrad)
    products += 2.0 * above.shape[1] * above.numel()
    moved += above.nbytes
    yield Task("tap dgrad", "relu1_1", tapped, (weight, *tap), exact_tap_dgrad, moved, products)


def plain_dgrad(above: Tensor, weight: Tensor) -> Outputs:
    """The gradient as a transposed convolution."""
    return (F.conv_transpose2d(above, weight, padding=1),)


def _dgrad(above: Tensor, weight: Tensor) -> Outputs:
    return (stylekernels.dgrad(above, weight),)


def exact_dgrad(above: Tensor, weight: Tensor) -> Outputs:
    """The gradient by the convolution's input, in fp64."""
    return (naive_dgrad.dgrad(above.double(), weight.double()),)


def eager_tap_dgrad(weight: Tensor, *tap: Tensor) -> Outputs:
    """The tap's gradient as autograd composes it, and the transposed convolution."""
    (gradient,) = eager_backward(*tap)
    return plain_dgrad(gradient, weight)


def strong_tap_dgrad(weight: Tensor, *tap: Tensor) -> Outputs:
    """The tap's gradient with its product and sum as one, and the transposed convolution."""
    (gradient,) = strong_backward(*tap)
    return plain_dgrad(gradient, weight)


def _tap_dgrad(
    weight: Tensor, above: Tensor, x: Tensor, _: Tensor, s: Tensor, scale: Tensor
) -> Outputs:
    return (stylekernels.tap_dgrad(above, x, s, weight, scale),)


def exact_tap_dgrad(weight: Tensor, above: Tensor, x: Tensor, s: Tensor, *_: Tensor) -> Outputs:
    """Both gradients in fp64."""
    wide = (operand.double() for operand in (above, x, s, weight))
    return (naive_dgrad.tap_dgrad(*wide),)


def exact_forward(x: Tensor, target: Tensor) -> Outputs:
    """The loss and S, in fp64."""
    return naive.style_loss_forward(x.double(), target.double(), 1.0)


def exact_backward(above: Tensor, x: Tensor, s: Tensor, *_: Tensor) -> Outputs:
    """The gradient by the ReLU's input, in fp64."""
    return (naive.style_tap_backward(above.double(), x.double(), s.double()),)


def exact_pool(z: Tensor) -> Outputs:
    """ReLU and 2 x 2 average, in fp64."""
    return plain_pool(z.double())


def _rows(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(1, 2)  # [B, M, C]


def eager_forward(x: Tensor, target: Tensor) -> Outputs:
    """The loss and S as the public implementations compute them."""
    F = x.flatten(2)  # [B, C, M]
    d = torch.bmm(F, F.mT).div(F.shape[2]) - target
    return d.square().sum(), d * (4.0 / F.shape[2])


def eager_backward(above: Tensor, x: Tensor, s: Tensor, *_: Tensor) -> Outputs:
    """The gradient as autograd composes it for the public implementations."""
    return ((above + torch.bmm(s.to(x.dtype), x.flatten(2)).view_as(x)) * (x > 0),)


def strong_forward(x: Tensor, target: Tensor) -> Outputs:
    """The Gram matrix and the difference from the target as one product."""
    F = _rows(x)
    d = torch.baddbmm(target.to(x.dtype)[None], F.mT, F, beta=-1, alpha=1 / F.shape[1]).float()
    return d.square().sum(), d * (4.0 / F.shape[1])


def strong_backward(above: Tensor, x: Tensor, s: Tensor, *_: Tensor) -> Outputs:
    """The gradient's product and sum as one, the mask in one operator."""
    total = torch.baddbmm(_rows(above), _rows(x), s.to(x.dtype))
    total = torch.ops.aten.threshold_backward(total, _rows(x), 0)
    return (total.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2),)


def plain_pool(z: Tensor) -> Outputs:
    """ReLU and 2 x 2 average."""
    return (relu_avg_pool2d(z),)


def _forward(x: Tensor, target: Tensor) -> Outputs:
    return stylekernels.style_loss_forward(x, target, 1.0)


def _backward(above: Tensor, x: Tensor, _: Tensor, s: Tensor, scale: Tensor) -> Outputs:
    return (stylekernels.style_tap_backward(above, x, s, scale),)


def _unscaled(outputs: Outputs) -> Outputs:
    """The loss and S of a formulation, which may have S as s and its scale."""
    loss, s, *scale = outputs
    return (loss, s * scale[0][:, None, None]) if scale else (loss, s)


def _pool(z: Tensor) -> Outputs:
    return (stylekernels.relu_avg_pool2d(z),)
