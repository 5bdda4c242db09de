"""The ways of one convolution on CUDA, and which of them is fastest for a layer.

cuDNN's fused convolution with bias and ReLU is the fastest for most shapes and far from it for
some, and the gradient as a convolution with turned kernels is now faster, now slower, than cuDNN's
own. So every layer is measured once, and what a way computes is checked before its time counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

import stylekernels as sk

Way = Callable[[Tensor], Tensor]

_ONES = (1, 1)
_ROUNDS = 5


def forward_ways(weight: Tensor, bias: Tensor) -> dict[str, Way]:
    """Convolution, bias and ReLU of x [B, N_in, H, W]; the plain way first.

    Args:
        weight: [N_out, N_in, 3, 3], channels-last.
        bias: [N_out].
    """

    def apart(x: Tensor) -> Tensor:
        return F.conv2d(x, weight, bias, padding=1).relu_()

    def fused(x: Tensor) -> Tensor:
        return torch.cudnn_convolution_relu(x, weight, bias, _ONES, _ONES, _ONES, 1)

    def one_pass(x: Tensor) -> Tensor:
        y = F.conv2d(x, weight, None, padding=1)
        sk.bias_relu_(y, bias)
        return y

    return {"conv, bias, relu": apart, "cudnn conv+bias+relu": fused, "conv, bias+relu": one_pass}


def backward_ways(weight: Tensor, turned: Tensor) -> dict[str, Way]:
    """Gradient [B, N_out, H, W] of the output -> that of the input; the plain way first.

    Args:
        weight: [N_out, N_in, 3, 3], channels-last.
        turned: the same kernels turned by 180 degrees, [N_in, N_out, 3, 3], channels-last.
    """

    def as_forward(gradient: Tensor) -> Tensor:
        return F.conv2d(gradient, turned, None, padding=1)

    def as_backward(gradient: Tensor) -> Tensor:
        batch, _, height, width = gradient.shape
        # Only its shape matters: the gradient of a convolution does not depend on its input.
        x = torch.empty_like(gradient[:, :1]).expand(batch, weight.shape[1], height, width)
        with _deterministic():
            return torch.ops.aten.convolution_backward(
                gradient, x, weight, None, _ONES, _ONES, _ONES, False, [0, 0], 1,
                [True, False, False],
            )[0]  # fmt: skip

    return {"turned": as_forward, "cudnn dgrad": as_backward}


def fastest(
    ways: Mapping[str, Way], x: Tensor, seconds: Callable[[Way, Tensor], float] | None = None
) -> str:
    """The name of the fastest way to treat ``x`` among those that agree with the first.

    Args:
        ways: name -> way; the first is known to be right.
        x: random input of the layer.
        seconds: measures one way; CUDA events by default.
    """
    seconds = seconds or _device_seconds
    names = list(ways)
    expected = ways[names[0]](x)
    right = [names[0]] + [name for name in names[1:] if _agrees(ways[name], x, expected)]
    return min(right, key=lambda name: seconds(ways[name], x))


def _agrees(way: Way, x: Tensor, expected: Tensor) -> bool:
    try:
        found = way(x)
    except RuntimeError:  # this build or GPU does not have it
        return False
    if found.shape != expected.shape or not found.isfinite().all():
        return False
    allowed = 4 * torch.finfo(expected.dtype).eps
    if expected.dtype == torch.float32:
        allowed = 4e-3  # TF32 products may be asked for, and are added up in another order
    return bool((found - expected).float().norm() <= allowed * expected.float().norm())


def _device_seconds(way: Way, x: Tensor) -> float:
    with _searching():
        way(x)
    times = []
    for _ in range(_ROUNDS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        way(x)
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return median(times)


@contextmanager
def _searching() -> Iterator[None]:
    """Let cuDNN try its algorithms within; what it finds for a shape it remembers."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@contextmanager
def _deterministic() -> Iterator[None]:
    """Keep cuDNN from gradients that add up in an order of their own within."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before
