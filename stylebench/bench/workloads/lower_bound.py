"""Operations of an iteration, and the lower bound of its time."""

from __future__ import annotations

from stylebench.bench.measure.timing import LowerBound
from stylebench.bench.workloads.roofline import ConvStack, Roofline
from stylebench.model.vgg import feature_shapes
from stylebench.transfer.problem import Problem

#: The most that Winograd's F(4 x 4, 3 x 3) saves of a convolution's products; libraries use it in
#: fp32 alone.
_WINOGRAD = 4.0


def iteration_flops(stack: ConvStack, problem: Problem, size: tuple[int, int]) -> float:
    """FLOP of convolutions and Gram matrices, forward and backward, two a multiply-add."""
    shapes = feature_shapes(problem.preset.style_layers, *size)
    grams = sum(2 * 2 * channels**2 * positions for channels, positions in shapes.values())
    return stack.flops(size) + grams


def iteration_lower_bound(
    roofline: Roofline, stack: ConvStack, precision: str, size: tuple[int, int], iterations: int = 1
) -> LowerBound:
    """The convolutions' products at the rate of the best product measured here.

    ``size`` is (height, width).
    """
    fewer = _WINOGRAD if precision == "fp32" else 1.0
    return LowerBound.of(iterations * stack.flops(size) / fewer, roofline.matmul(precision).value)
