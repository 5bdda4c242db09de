"""The algorithms for one convolution on a CPU, and the choice of the faster for a layer.

In fp32 Winograd's way has a quarter of the products, but how much of that is won depends on the
layer and the processor. So every kind of layer is measured once, an algorithm's result being
checked against fp64 before its time counts. The choice is kept (``choices``), so that the next
start is quick and computes a layer to the same bits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from math import log2
from statistics import median
from time import perf_counter

import torch
import torch.nn.functional as F
from torch import Tensor

from stylebench.engines.fused.algorithm import Algorithm
from stylebench.engines.fused.choices import choose_once
from stylebench.engines.fused.tiling import tile_size
from stylekernels.ops.conv.op import Winograd, Workspace, processor, supports

_log = logging.getLogger(__name__)

_ONES = (1, 1)
_ROUNDS = 3
_CROP = 10  # px, the side of what is checked against fp64
_TOLERANCE = 2e-5  # relative: ten times Winograd's error, a hundredth of what a fault would make


def choose(
    weight: Tensor, bias: Tensor | None, size: tuple[int, int], workspace: Workspace | None
) -> tuple[str, Algorithm]:
    """The faster algorithm for a layer, and its name.

    Args:
        weight: [N_out, N_in, 3, 3], channels-last.
        bias: [N_out], or None.
        size: (height, width) of its usual input.
        workspace: the memory of Winograd convolutions; None: direct ones alone.
    """
    if not packable(weight):
        return "plain", _plain(weight, bias)
    makers: dict[str, Callable[[], Algorithm]] = {"direct": lambda: _direct(weight, bias, size)}
    if workspace is None or not supports(weight):
        return "direct", makers["direct"]()
    makers["winograd"] = lambda: _Winograd(weight, bias, workspace)
    layer = _layer(weight, size)

    def measure() -> str:
        name = _fastest(makers, weight, bias, size)
        _log.debug("convolution %s: %s is the faster", layer, name)
        return name

    name = choose_once(_machine(), layer, measure, makers.__contains__)
    return name, makers[name]()


def packable(weight: Tensor) -> bool:
    """Whether oneDNN can take these weights in its own layout and fuse bias and ReLU."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    operators = torch.ops.mkldnn
    if not hasattr(operators, "_convolution_pointwise"):
        return False
    if weight.dtype == torch.bfloat16:  # some processors do not even emulate it
        return operators._is_mkldnn_bf16_supported()  # noqa: SLF001
    return weight.dtype == torch.float32


def _direct(weight: Tensor, bias: Tensor | None, size: tuple[int, int]) -> Algorithm:
    """OneDNN's convolution of packed weights, with bias and ReLU fused.

    It is the operator that torch.compile lowers convolutions to on a CPU.
    """
    outputs, inputs = weight.shape[:2]
    shape = [1, inputs, *tile_size(*size, outputs, weight)]
    packed = torch.ops.mkldnn._reorder_convolution_weight(weight, _ONES, _ONES, _ONES, 1, shape)  # noqa: SLF001
    operator = torch.ops.mkldnn._convolution_pointwise  # noqa: SLF001

    def convolve(x: Tensor, rows: int, relu: bool) -> Tensor:
        after = "relu" if relu else "none"
        return operator(x, packed, bias, (rows, 1), _ONES, _ONES, 1, after, [], "")

    return _cut(convolve)


def _plain(weight: Tensor, bias: Tensor | None) -> Algorithm:
    def convolve(x: Tensor, rows: int, relu: bool) -> Tensor:
        y = F.conv2d(x, weight, bias, padding=(rows, 1))
        return y.relu_() if relu else y

    return _cut(convolve)


def _cut(convolve: Callable[[Tensor, int, bool], Tensor]) -> Algorithm:
    """The algorithm of a convolution that pads both sides by rows or none."""

    def algorithm(x: Tensor, above: bool, below: bool, relu: bool, /) -> Tensor:
        if above and below:
            return convolve(x, 0, relu)
        y = convolve(x, 1, relu)
        return y[:, :, above : y.shape[2] - below] if above or below else y

    return Algorithm(algorithm)


class _Winograd(Algorithm):
    """All steps in one pass: what follows the convolution finds its output in the cache."""

    def __init__(self, weight: Tensor, bias: Tensor | None, workspace: Workspace) -> None:
        self._convolution = Winograd(weight, bias, workspace)

    def __call__(
        self, x: Tensor, above: bool, below: bool, relu: bool, into: Tensor | None = None
    ) -> Tensor:
        return self._convolution(x, (not above, not below), relu, output=into)

    def masked(self, x: Tensor, above: bool, below: bool, mask: Tensor) -> Tensor:
        return self._convolution(x, (not above, not below), mask=mask, output=mask)

    def pooled(
        self,
        x: Tensor,
        above: bool,
        below: bool,
        pooling: str,
        into: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        padding, maximum = (not above, not below), pooling == "max"
        return self._convolution.pooled(x, padding, maximum=maximum, output=into)


def _fastest(
    makers: Mapping[str, Callable[[], Algorithm]],
    weight: Tensor,
    bias: Tensor | None,
    size: tuple[int, int],
) -> str:
    """The name of the fastest algorithm among those that are right, by turns."""
    generator = torch.Generator().manual_seed(0)  # the caller's random numbers are left alone
    outputs, inputs = weight.shape[:2]
    x = torch.randn(1, inputs, *tile_size(*size, outputs, weight), generator=generator)
    x = x.contiguous(memory_format=torch.channels_last)
    algorithms = {name: make() for name, make in makers.items()}
    right = {
        name: algorithm for name, algorithm in algorithms.items()
        if _is_right(algorithm, weight, bias, x[:, :, :_CROP, :_CROP])
    }  # fmt: skip
    seconds: dict[str, list[float]] = {name: [] for name in right}
    for _ in range(_ROUNDS):
        for name, algorithm in right.items():
            start = perf_counter()
            algorithm(x, False, False, True)
            seconds[name].append(perf_counter() - start)
    return min(seconds, key=lambda name: median(seconds[name]), default="direct")


def _is_right(algorithm: Algorithm, weight: Tensor, bias: Tensor | None, x: Tensor) -> bool:
    """Whether the algorithm's convolution of ``x`` is fp64's, and lets NaN through."""
    exact = F.conv2d(
        x.double(), weight.double(), None if bias is None else bias.double(), padding=1
    )
    error = (algorithm(x, False, False, False) - exact).norm() / exact.norm()
    lost = algorithm(torch.full_like(x, torch.nan), False, False, False)
    return bool(error <= _TOLERANCE and lost.isnan().all())


def _layer(weight: Tensor, size: tuple[int, int]) -> str:
    """The kind of a layer: its channels, and its tiles' positions to a power of two."""
    outputs, inputs = weight.shape[:2]
    rows, columns = tile_size(*size, outputs, weight)
    return f"{inputs} to {outputs} channels, 2^{round(log2(rows * columns))} positions"


def _machine() -> str:
    """Name of the processor, threads, torch and kernels that a measurement holds for."""
    from stylekernels.native.compile import sources

    kernels = f"kernels {sources()[:8]}"
    return f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {kernels}"
