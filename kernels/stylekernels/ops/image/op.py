"""The operators at a network's first layer: what enters it, and what its gradient leaves as."""

import torch
from torch import Tensor

from stylekernels.ops.image import cpu
from stylekernels.runtime.dispatch import uses_triton
from stylekernels.runtime.layout import require_activation, require_floating
from stylekernels.runtime.operators import operator


def network_input(
    image: Tensor, factor: float, dtype: torch.dtype, *, parts: int = 1, channels: int = 0
) -> tuple[Tensor, Tensor]:
    """Return factor * image as a network takes it, and a check of its values, in one kernel.

    Not differentiable; see `image_gradient`.

    Args:
        image: [B, C, H, W], fp32 (fp64 through plain torch).
        factor: a number; a power of two rounds nothing.
        dtype: of the input.
        parts: 1 for the image rounded to `dtype`; 2 for its rounding errors as well, in C channels
            more.
        channels: of the input, the last of them zeros; 0 for parts * C.

    Returns:
        The input [B, channels, H, W], channels-last, and the check [n] in the dtype of `image`, of
        zeros, and NaN if a value of `image` is not finite.

    Raises:
        ValueError: `image` is not [B, C, H, W], or `parts` or `channels` cannot be.
        TypeError: a dtype is not floating.
    """
    require_activation(image, "image")
    require_floating(dtype)
    if parts not in (1, 2):
        raise ValueError(f"parts must be 1 or 2, got {parts}")
    least = parts * image.shape[1]
    if channels and channels < least:
        raise ValueError(
            f"channels must be {least} or more for {parts} parts of {tuple(image.shape)}, "
            f"got {channels}"
        )
    x, check = network_input_operator(image, factor, dtype, parts, channels or least)
    return x, check


@operator("network_input")
def network_input_operator(
    image: Tensor, factor: float, dtype: torch.dtype, parts: int, channels: int
) -> tuple[Tensor, Tensor]:
    """Compute `network_input`, on whichever implementation fits the operand."""
    x, check = network_input_fake(image, factor, dtype, parts, channels)
    if not uses_triton(image, x):
        cpu.network_input(image, factor, parts, x, check)
        return x, check
    from stylekernels.ops.image.triton_image import input_launches
    from stylekernels.runtime.launch import run_all

    run_all(input_launches(image.contiguous(), x, check, factor, parts))
    return x, check


@network_input_operator.register_fake
def network_input_fake(
    image: Tensor, factor: float, dtype: torch.dtype, parts: int, channels: int
) -> tuple[Tensor, Tensor]:
    """Allocate the results of `network_input`: the kernel's programs leave a check each."""
    del factor, parts
    batch, _, height, width = image.shape
    memory = image.new_empty((batch, height, width, channels), dtype=dtype)
    x = memory.permute(0, 3, 1, 2)  # channels-last
    if not uses_triton(image, x):
        return x, image.new_empty(1)
    from stylekernels.ops.image.triton_image import check_of

    return x, check_of(image)


def image_gradient(gradient: Tensor, factor: float, channels: int, dtype: torch.dtype) -> Tensor:
    """Return factor times the first channels of a network's input gradient, in one kernel.

    Not differentiable.

    Args:
        gradient: [B, C, H, W], channels-last and NCHW, whole or sliced, are read in place.
        factor: a number.
        channels: of the image, C or fewer: the gradients of its rounding errors and of the zeros
            behind them are left out.
        dtype: of the image.

    Returns:
        [B, channels, H, W], contiguous.

    Raises:
        ValueError: `gradient` is not [B, C, H, W], or has fewer channels.
        TypeError: a dtype is not floating.
    """
    require_activation(gradient, "gradient")
    require_floating(dtype)
    if not 1 <= channels <= gradient.shape[1]:
        raise ValueError(
            f"channels must be 1 to {gradient.shape[1]}, those of the gradient, got {channels}"
        )
    result: Tensor = image_gradient_operator(gradient, factor, channels, dtype)
    return result


@operator("image_gradient")
def image_gradient_operator(
    gradient: Tensor, factor: float, channels: int, dtype: torch.dtype
) -> Tensor:
    """Compute `image_gradient`, on whichever implementation fits the operand."""
    if not uses_triton(gradient, gradient.new_empty(0, dtype=dtype)):
        return cpu.image_gradient(gradient, factor, channels, dtype)
    from stylekernels.ops.image.triton_image import gradient_launches
    from stylekernels.runtime.launch import run_all

    output = image_gradient_fake(gradient, factor, channels, dtype)
    run_all(gradient_launches(gradient, output, factor))
    return output


@image_gradient_operator.register_fake
def image_gradient_fake(
    gradient: Tensor, factor: float, channels: int, dtype: torch.dtype
) -> Tensor:
    """Allocate the result of `image_gradient`."""
    del factor
    batch, _, height, width = gradient.shape
    return gradient.new_empty((batch, channels, height, width), dtype=dtype)
