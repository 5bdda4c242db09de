"""Gradient of the input of a frozen 3 x 3 convolution: of VGG's first, the image's.

Libraries compute it in blocks of 32 channels or more, and the image has three.
"""

import torch
from torch import Tensor

from stylekernels.ops.dgrad import cpu
from stylekernels.runtime.dispatch import uses_triton
from stylekernels.runtime.layout import require_activation, require_device, require_floating
from stylekernels.runtime.operators import operator, refuse_second_derivative

MOST_INPUTS = 4
"""Channels of the input that the kernel has room for."""
MOST_OUTPUTS = 128
"""Channels of the output that one block holds; more, and plain torch takes the kernel's place."""


def dgrad(
    gradient: Tensor, weight: Tensor, factor: float = 1.0, dtype: torch.dtype | None = None
) -> Tensor:
    """Return factor * dL/dx of y = conv2d(x, weight, padding=1), from dL/dy.

    Sums are fp32, in a fixed order, and rounded once. fp32 is multiplied in TF32 where torch's own
    convolutions may be. Not differentiable.

    Args:
        gradient: dL/dy, [B, K, H, W], fp16, bf16 or fp32 (fp64 through plain torch), of any
            strides; channels-last is read the fastest.
        weight: [K, C, 3, 3] in the dtype of `gradient`, of any strides.
        factor: a number.
        dtype: of the result; that of `gradient` by default.

    Returns:
        [B, C, H, W], contiguous, as images are.

    Raises:
        ValueError: a shape or device does not fit.
        TypeError: a tensor is not floating, or the two differ in dtype.
    """
    require_activation(gradient, "gradient")
    require_device(gradient, weight, "weight")
    outputs = gradient.shape[1]
    if weight.dim() != 4 or weight.shape[0] != outputs or weight.shape[2:] != (3, 3):
        raise ValueError(f"weight must be [{outputs}, C, 3, 3], got {list(weight.shape)}")
    if weight.dtype != gradient.dtype:
        raise TypeError(f"weight must be {gradient.dtype} as gradient is, got {weight.dtype}")
    require_floating(dtype := dtype or gradient.dtype)
    result: Tensor = dgrad_operator(gradient, weight, factor, dtype)
    return result


@operator("dgrad")
def dgrad_operator(gradient: Tensor, weight: Tensor, factor: float, dtype: torch.dtype) -> Tensor:
    """Compute `dgrad`, on whichever implementation fits the operands."""
    outputs, inputs = weight.shape[:2]
    fits = inputs <= MOST_INPUTS and outputs <= MOST_OUTPUTS
    if not fits or not uses_triton(gradient, weight, gradient.new_empty(0, dtype=dtype)):
        return cpu.dgrad(gradient, weight, factor, dtype)
    from stylekernels.ops.dgrad.triton_dgrad import launches
    from stylekernels.runtime.launch import run_all

    x = dgrad_fake(gradient, weight, factor, dtype)
    run_all(launches(gradient, weight, x, factor))
    return x


@dgrad_operator.register_fake
def dgrad_fake(gradient: Tensor, weight: Tensor, factor: float, dtype: torch.dtype) -> Tensor:
    """Allocate the result of `dgrad`."""
    del factor
    batch, _, height, width = gradient.shape
    return gradient.new_empty((batch, weight.shape[1], height, width), dtype=dtype)


refuse_second_derivative(dgrad_operator)
