"""Gradient of the input of a frozen 3 x 3 convolution: of VGG's first, the image's.

Libraries compute it in blocks of 32 channels or more, and the image has three. The tap behind that
convolution, where the paper takes a style loss, needs no pass of its own.
"""

import torch
from torch import Tensor

from stylekernels.ops.dgrad import cpu
from stylekernels.ops.style.op import style_tap_backward
from stylekernels.runtime.dispatch import uses_triton
from stylekernels.runtime.layout import (
    require_activation,
    require_device,
    require_factors,
    require_floating,
    require_same,
    same_strides,
)
from stylekernels.runtime.operators import operator, refuse_second_derivative

MOST_INPUTS = 4
"""Channels of the input that the kernel has room for."""
MOST_OUTPUTS = 128
"""Channels of the output that one block holds; more, and plain torch takes the kernel's place."""
MOST_TAPPED = 64
"""Channels of the output whose S one block holds too; more, and the tap has a kernel of its own."""


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
    dtype = _require(gradient, weight, dtype)
    result: Tensor = dgrad_operator(gradient, weight, factor, dtype)
    return result


def tap_dgrad(
    gradient: Tensor,
    y: Tensor,
    s: Tensor,
    weight: Tensor,
    scale: Tensor | None = None,
    channel_scale: Tensor | None = None,
    factor: float = 1.0,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Return `dgrad` of `style_tap_backward`, in half precision by one kernel.

    That is factor * dL/dx where y = relu(conv2d(x, weight, padding=1) + bias) and L has a style
    loss of y. The gradient between the two is rounded to the dtype of `y` as if it were written.

    Args:
        gradient: the gradient from above, dL/dy without the style loss, [B, K, H, W].
        y: the activation, likewise; the one kernel takes both channels-last.
        s: from `style_loss_forward` of `y`, [B, K, K].
        weight: [K, C, 3, 3] in the dtype of `gradient`.
        scale: of s, [B], if it is not 1.
        channel_scale: v [K], if the loss is that of v y.
        factor: a number.
        dtype: of the result; that of `gradient` by default.

    Returns:
        [B, C, H, W], contiguous.

    Raises:
        ValueError: a shape or device does not fit.
        TypeError: a tensor is not floating, or `weight`, `y` and `gradient` differ in dtype.
    """
    dtype = _require(gradient, weight, dtype)
    require_same(gradient, y, "y")
    if y.dtype != gradient.dtype:
        raise TypeError(f"y must be {gradient.dtype} as gradient is, got {y.dtype}")
    batch, outputs = y.shape[:2]
    require_device(y, s, "s")
    if s.shape != (batch, outputs, outputs):
        raise ValueError(f"s must be [{batch}, {outputs}, {outputs}], got {list(s.shape)}")
    require_factors(y, channel_scale)
    result: Tensor = tap_dgrad_operator(gradient, y, s, weight, scale, channel_scale, factor, dtype)
    return result


def _require(gradient: Tensor, weight: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    """Raise unless the operands of `dgrad` fit; return the dtype of its result."""
    require_activation(gradient, "gradient")
    require_device(gradient, weight, "weight")
    outputs = gradient.shape[1]
    if weight.dim() != 4 or weight.shape[0] != outputs or weight.shape[2:] != (3, 3):
        raise ValueError(f"weight must be [{outputs}, C, 3, 3], got {list(weight.shape)}")
    if weight.dtype != gradient.dtype:
        raise TypeError(f"weight must be {gradient.dtype} as gradient is, got {weight.dtype}")
    require_floating(dtype := dtype or gradient.dtype)
    return dtype


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


@operator("tap_dgrad")
def tap_dgrad_operator(
    gradient: Tensor,
    y: Tensor,
    s: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    channel_scale: Tensor | None,
    factor: float,
    dtype: torch.dtype,
) -> Tensor:
    """Compute `tap_dgrad`: by one kernel where it fits the operands, else by the two operators."""
    outputs, inputs = weight.shape[:2]
    fits = (
        inputs <= MOST_INPUTS
        and outputs <= MOST_TAPPED
        and y.element_size() == 2
        and y.stride(1) == 1  # channels-last: other addresses leave it no registers
        and s.dtype == y.dtype
        and same_strides(gradient, y)
    )
    written = gradient.new_empty(0, dtype=dtype)
    if not fits or not uses_triton(gradient, y, s, weight, scale, channel_scale, written):
        z = style_tap_backward(gradient, y, s, scale, None, 0.0, channel_scale)
        both: Tensor = dgrad_operator(z, weight, factor, dtype)
        return both
    from stylekernels.ops.dgrad.triton_dgrad import StyleTap, launches
    from stylekernels.runtime.launch import run_all

    x = dgrad_fake(gradient, weight, factor, dtype)
    tap = StyleTap(y, s.contiguous(), scale, channel_scale)
    run_all(launches(gradient, weight, x, factor, tap=tap))
    return x


@tap_dgrad_operator.register_fake
def tap_dgrad_fake(
    gradient: Tensor,
    y: Tensor,
    s: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    channel_scale: Tensor | None,
    factor: float,
    dtype: torch.dtype,
) -> Tensor:
    """Allocate the result of `tap_dgrad`."""
    del y, s, scale, channel_scale
    return dgrad_fake(gradient, weight, factor, dtype)


refuse_second_derivative(dgrad_operator)
refuse_second_derivative(tap_dgrad_operator)
