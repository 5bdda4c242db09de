"""The algorithms of one convolution on CUDA, and which of them is fastest for a layer.

cuDNN's fused convolution with bias and ReLU is the fastest for most shapes and far from it for
some, and the gradient as a convolution with turned kernels is now faster, now slower, than cuDNN's
own. So every layer is measured once, and what a algorithm computes is checked before its time counts.

What is chosen is kept for the process: the same layer is computed the same algorithm, to the bit, by
every engine in it. Two processes may measure differently, choose differently, and then round
differently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import nan
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import stylekernels as sk

ConvAlgorithm = Callable[[Tensor], Tensor]

_ONES = (1, 1)
_CALLS, _ROUNDS = 10, 3
_HEAD_STARTS = (2_000_000, 20_000_000)  # cycles: 1 ms and 10 ms, for hosts that launch slowly

_chosen: dict[tuple[object, ...], str] = {}  # by layer, the algorithm's name


def forward_algorithms(weight: Tensor, bias: Tensor) -> dict[str, ConvAlgorithm]:
    """Convolution, bias and ReLU of x [B, N_in, H, W]; the plain algorithm first.

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


def backward_algorithms(weight: Tensor, turned: Tensor) -> dict[str, ConvAlgorithm]:
    """Gradient [B, N_out, H, W] of the output -> that of the input; the plain algorithm first.

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


def select_fastest(
    algorithms: Mapping[str, ConvAlgorithm],
    x: Tensor,
    seconds: Callable[[ConvAlgorithm, Tensor], float] | None = None,
) -> str:
    """The name of the fastest algorithm to treat ``x`` among those that agree with the first.

    A layer is measured once a process: by device, dtype, precision of fp32 products, shapes of
    input and output, and algorithms.

    Args:
        algorithms: name -> algorithm; the first is known to be right.
        x: random input of the layer.
        seconds: measures one algorithm; CUDA events by default.
    """
    names = list(algorithms)
    # All of it searches: a plan that is chosen without searching stays for its shape.
    with torch.cuda.device_of(x), _searching():  # type: ignore[no-untyped-call]
        expected = algorithms[names[0]](x)
        layer = (x.device, x.dtype, _products(), x.shape, expected.shape, *names)
        if layer not in _chosen:
            right = [names[0]] + [
                name for name in names[1:] if _agrees(algorithms[name], x, expected)
            ]
            measure = seconds or _device_seconds
            _chosen[layer] = min(right, key=lambda name: measure(algorithms[name], x))
    return _chosen[layer]


def _products() -> str:
    """What fp32 convolutions multiply in."""
    convolutions: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    return convolutions.fp32_precision


def _agrees(algorithm: ConvAlgorithm, x: Tensor, expected: Tensor) -> bool:
    """Whether ``algorithm`` computes what is expected, writes all of it, and lets NaN through.

    NaN is how a run learns that fp16 overflowed: a ReLU that makes it 0 would hide that.
    """
    try:
        torch.full_like(expected, nan)  # the memory that the algorithm is given next
        found = algorithm(x)
        unhidden = algorithm(torch.full_like(x, nan)).isnan().all()
    except Exception:  # this build or GPU does not have it, and says so as it likes
        return False
    if found.shape != expected.shape or not found.isfinite().all() or not unhidden:
        return False
    allowed = 4 * torch.finfo(expected.dtype).eps
    if expected.dtype == torch.float32:
        allowed = 4e-3  # TF32 products may be asked for, and are added up in another order
    return bool((found - expected).float().norm() <= allowed * expected.float().norm())


def _device_seconds(algorithm: ConvAlgorithm, x: Tensor) -> float:
    """Seconds that the device takes, as in a captured graph: the host's launches do not count."""
    algorithm(x)
    return median(_back_to_back(algorithm, x) for _ in range(_ROUNDS))


def _back_to_back(algorithm: ConvAlgorithm, x: Tensor) -> float:
    """Seconds of one call among several, all of them launched before the device begins."""
    for cycles in _HEAD_STARTS:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda._sleep(cycles)  # type: ignore[no-untyped-call]  # noqa: SLF001
        start.record()
        for _ in range(_CALLS):
            algorithm(x)
        ahead = not start.query()  # type: ignore[no-untyped-call]
        end.record()
        end.synchronize()
        if ahead:
            break
    return start.elapsed_time(end) / 1e3 / _CALLS


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
