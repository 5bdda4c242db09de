"""Activations as matrices: memory formats, bands of rows, and checks of operands.

An activation [B, C, H, W] is, for every kernel here, B matrices of M = H * W positions by C
channels. In channels-last memory their rows are contiguous, in NCHW memory their columns are;
both are read in place. Anything else (a slice, a permutation) is copied once.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

CHUNK = 1 << 18
"""Elements that CPU code widens to fp32 at a time: 1 MiB, close to a core."""

INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Integers that floats of so many bytes are read as. Those of floats above 0 are above 0."""


@dataclass(frozen=True)
class Matrix:
    """B matrices [M, C] inside `tensor`, with their strides in elements."""

    tensor: Tensor
    batch_stride: int
    stride: int
    channels_last: bool


def rows(x: Tensor) -> Tensor:
    """Return [B, C, H, W] as [B, M, C], without a copy where the memory allows it."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def output_format(x: Tensor) -> torch.memory_format:
    """Return the memory format that results shaped like `x` are given."""
    if x.is_contiguous() or x.stride(1) != 1:
        return torch.contiguous_format
    return torch.channels_last


def empty_like(x: Tensor) -> Tensor:
    """Return uninitialized memory for a result shaped like `x`, always dense."""
    return torch.empty_like(x, memory_format=output_format(x))


def matrix(x: Tensor, channels_last: bool | None = None) -> Matrix:
    """Return [B, C, H, W] as matrices; copy only if no stride is one, or the order differs.

    Args:
        x: the activation.
        channels_last: the order to have it in, if it must be another operand's.
    """
    batch, channels, height, width = x.shape
    if height > 1 and width > 1 and x.stride(2) != width * x.stride(3):
        x = x.contiguous(memory_format=output_format(x))
    position_stride = x.stride(3) if width > 1 else x.stride(2)
    position_stride = position_stride if height * width > 1 else 1
    channel_stride = x.stride(1) if channels > 1 else 1
    batch_stride = x.stride(0) if batch > 1 else 0
    if channel_stride == 1 and channels_last is not False:
        return Matrix(x, batch_stride, position_stride, channels_last=True)
    if position_stride == 1 and channels_last is not True:
        return Matrix(x, batch_stride, channel_stride, channels_last=False)
    wanted = torch.contiguous_format if channels_last is False else torch.channels_last
    if channels_last is None:
        wanted = output_format(x)
    return matrix(x.clone(memory_format=wanted), channels_last)


def same_strides(x: Tensor, other: Tensor) -> bool:
    """Say whether two tensors of one shape have the same strides, wherever a stride matters."""
    dimensions = zip(x.shape, x.stride(), other.stride(), strict=True)
    return all(size == 1 or a == b for size, a, b in dimensions)


def is_matrix(x: Tensor) -> bool:
    """Say whether results can be written to `x` in place."""
    return matrix(x).tensor is x


def require_activation(x: Tensor, name: str = "x") -> None:
    """Raise unless `x` is a floating [B, C, H, W] with at least one position and channel."""
    if x.dim() != 4:
        raise ValueError(f"{name} must be [B, C, H, W], got {x.dim()} dimensions: {tuple(x.shape)}")
    if x.dtype not in FLOATING:
        raise TypeError(f"{name} must be float16, bfloat16, float32 or float64, got {x.dtype}")
    if x.numel() == 0:
        raise ValueError(f"{name} holds no elements: {tuple(x.shape)}")


def require_floating(dtype: Any) -> None:
    """Raise unless `dtype` is one that an activation may have."""
    if dtype not in FLOATING:
        raise TypeError(f"dtype must be float16, bfloat16, float32 or float64, got {dtype}")


def require_same(x: Tensor, other: Tensor, name: str) -> None:
    """Raise unless `other` has the shape and device of `x`."""
    if other.shape != x.shape:
        raise ValueError(f"{name} must be {tuple(x.shape)}, got {tuple(other.shape)}")
    require_device(x, other, name)


def require_device(x: Tensor, other: Tensor, name: str) -> None:
    """Raise unless `other` is a floating tensor on the device of `x`."""
    if other.device != x.device:
        raise ValueError(f"{name} must be on {x.device} as the activation is, got {other.device}")
    if other.dtype not in FLOATING:
        raise TypeError(f"{name} must be a floating tensor, got {other.dtype}")


def require_target(x: Tensor, target: Tensor) -> None:
    """Raise unless `target` is a Gram for `x`: [C, C], or [B, C, C] for one a picture."""
    batch, channels = x.shape[:2]
    if tuple(target.shape) not in {(channels, channels), (batch, channels, channels)}:
        raise ValueError(
            f"target must be [{channels}, {channels}] or [{batch}, {channels}, {channels}] "
            f"for an activation {tuple(x.shape)}, got {tuple(target.shape)}"
        )
    require_device(x, target, "target")


def require_factors(x: Tensor, channel_scale: Tensor | None) -> None:
    """Raise unless `channel_scale` is absent, or one number for each channel of `x`."""
    if channel_scale is None:
        return
    if channel_scale.shape != x.shape[1:2]:
        raise ValueError(f"channel_scale must be [{x.shape[1]}], got {list(channel_scale.shape)}")
    require_device(x, channel_scale, "channel_scale")


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which sums over `dtype` are kept: fp32, or fp64 for fp64."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def bands(x: Tensor, most: int = CHUNK) -> list[slice]:
    """Cut the rows of [B, C, H, W], or of [M, C], into runs of at most so many elements.

    Several passes over `x[..., band, :]` then find it in the cache.
    """
    count = x.shape[-2]
    step = max(1, most * count // max(1, x.numel()))
    return [slice(i, min(i + step, count)) for i in range(0, count, step)]


def chunks(x: Tensor, most: int | None) -> list[slice]:
    """Cut the positions of [M, C] for products: `bands` of at least 256; one band for None."""
    return bands(x, x.numel() if most is None else max(most, 256 * x.shape[1]))
