"""The algorithms for one convolution on CUDA, and the choice of the fastest for a layer.

cuDNN's fused convolution with bias and ReLU is the fastest for most shapes but slow for some, and
the gradient computed as a convolution with flipped kernels is faster or slower than cuDNN's own
gradient depending on the shape. So every layer is measured once, and an algorithm's result is
checked before its time counts.

The choice is kept for the process, so that all engines in it compute a layer to the same bits. Two
processes may measure, choose and round differently.
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

_chosen: dict[tuple[object, ...], str] = {}  # layer -> name of its algorithm


def forward_algorithms(weight: Tensor, bias: Tensor) -> dict[str, ConvAlgorithm]:
    """Algorithms for convolution, bias and ReLU of x [B, N_in, H, W]; plain PyTorch first.

    Args:
        weight: [N_out, N_in, 3, 3], channels-last.
        bias: [N_out].
    """

    def separate(x: Tensor) -> Tensor:
        return F.conv2d(x, weight, bias, padding=1).relu_()

    def fused(x: Tensor) -> Tensor:
        return torch.cudnn_convolution_relu(x, weight, bias, _ONES, _ONES, _ONES, 1)

    def one_pass(x: Tensor) -> Tensor:
        y = F.conv2d(x, weight, None, padding=1)
        sk.bias_relu_(y, bias)
        return y

    return {
        "conv, bias, relu": separate,
        "cudnn conv+bias+relu": fused,
        "conv, bias+relu": one_pass,
    }


def backward_algorithms(weight: Tensor, flipped: Tensor) -> dict[str, ConvAlgorithm]:
    """Algorithms for gradient [B, N_out, H, W] of the output -> of the input; plain PyTorch first.

    Args:
        weight: [N_out, N_in, 3, 3], channels-last.
        flipped: the same kernels flipped in both directions, [N_in, N_out, 3, 3], channels-last.
    """

    def as_forward(gradient: Tensor) -> Tensor:
        return F.conv2d(gradient, flipped, None, padding=1)

    def as_backward(gradient: Tensor) -> Tensor:
        batch, _, height, width = gradient.shape
        # Only its shape matters: the gradient of a convolution does not depend on its input.
        x = torch.empty_like(gradient[:, :1]).expand(batch, weight.shape[1], height, width)
        with _deterministic():
            return torch.ops.aten.convolution_backward(
                gradient, x, weight, None, _ONES, _ONES, _ONES, False, [0, 0], 1,
                [True, False, False],
            )[0]  # fmt: skip

    return {"flipped kernels": as_forward, "cudnn dgrad": as_backward}


def select_fastest(
    algorithms: Mapping[str, ConvAlgorithm],
    x: Tensor,
    seconds: Callable[[ConvAlgorithm, Tensor], float] | None = None,
) -> str:
    """The name of the fastest algorithm for ``x`` among those that agree with the first.

    A layer is measured once in a process. Layers are told apart by device, dtype, precision of
    fp32 products, shapes of input and output, and names of the algorithms.

    Args:
        algorithms: name -> algorithm; the first is known to be right.
        x: random input of the layer [B, N_in, H, W].
        seconds: times one algorithm; with CUDA events by default.
    """
    names = list(algorithms)
    # Checks search too: cuDNN keeps a shape's first plan, even one that it took without a search.
    with torch.cuda.device_of(x), _searching():  # type: ignore[no-untyped-call]
        expected = algorithms[names[0]](x)
        layer = (x.device, x.dtype, _products(), x.shape, expected.shape, *names)
        if layer not in _chosen:
            correct = [names[0]] + [
                name for name in names[1:] if _agrees(algorithms[name], x, expected)
            ]
            measure = seconds or _device_seconds
            _chosen[layer] = min(correct, key=lambda name: measure(algorithms[name], x))
    return _chosen[layer]


def _products() -> str:
    """The precision that fp32 convolutions multiply in."""
    convolutions: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    return convolutions.fp32_precision


def _agrees(algorithm: ConvAlgorithm, x: Tensor, expected: Tensor) -> bool:
    """Whether ``algorithm`` gives ``expected``, writes every element, and lets NaN through.

    A run learns from NaN that fp16 overflowed: a ReLU that turns NaN into 0 would hide it.
    """
    try:
        torch.full_like(expected, nan)  # poisons the memory that the algorithm's output will take
        result = algorithm(x)
        passes_nan = algorithm(torch.full_like(x, nan)).isnan().all()
    except Exception:  # this build or GPU does not have it; the exception's type is anyone's choice
        return False
    if result.shape != expected.shape or not result.isfinite().all() or not passes_nan:
        return False
    tolerance = 4 * torch.finfo(expected.dtype).eps
    if expected.dtype == torch.float32:
        tolerance = 4e-3  # products may be TF32, and sums are in another order
    return bool((result - expected).float().norm() <= tolerance * expected.float().norm())


def _device_seconds(algorithm: ConvAlgorithm, x: Tensor) -> float:
    """Seconds on the device alone, as in a captured graph: the host's launches do not count."""
    algorithm(x)
    return median(_back_to_back(algorithm, x) for _ in range(_ROUNDS))


def _back_to_back(algorithm: ConvAlgorithm, x: Tensor) -> float:
    """Seconds of one call among several, all of them launched before the device starts."""
    for cycles in _HEAD_STARTS:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda._sleep(cycles)  # type: ignore[no-untyped-call]  # noqa: SLF001
        start.record()
        for _ in range(_CALLS):
            algorithm(x)
        all_launched = not start.query()  # type: ignore[no-untyped-call]
        end.record()
        end.synchronize()
        if all_launched:
            break
    return start.elapsed_time(end) / 1e3 / _CALLS


@contextmanager
def _searching() -> Iterator[None]:
    """Let cuDNN time its own algorithms within; it remembers the fastest for each shape."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@contextmanager
def _deterministic() -> Iterator[None]:
    """Keep cuDNN within from gradients whose order of summation varies from call to call."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before
