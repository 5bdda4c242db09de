"""A network's input from the image, and the image's gradient from that of the input."""

from math import ceil

import triton
import triton.language as tl
from torch import Tensor

from stylekernels.ops.style.triton_gram import offsets
from stylekernels.runtime.launch import Launch
from stylekernels.runtime.layout import matrix

BLOCK = 256
"""Positions a step: two a thread, with all channels of each, which channels-last keeps together."""

MOST_PROGRAMS = 1024
"""Of one image: as many checks are added up in one step."""

INF = tl.constexpr(float("inf"))


@triton.jit
def network_input_kernel(
    image,  # [batch, SOURCES, positions]
    x,  # [batch, positions, CHANNELS]
    check,  # [batch, programs]
    positions,
    steps,
    factor,
    SOURCES: tl.constexpr,
    PARTS: tl.constexpr,
    CHANNELS: tl.constexpr,
    WIDTH: tl.constexpr,  # CHANNELS rounded up to a power of two
    BLOCK: tl.constexpr,
):
    """Write `steps` blocks of positions, and 0 or NaN as their check."""
    program = tl.program_id(0)
    batch = tl.program_id(1).to(tl.int64)
    image += batch * SOURCES * positions
    x += batch * CHANNELS * positions
    channel = tl.arange(0, WIDTH)
    first = (channel < SOURCES)[None, :]
    taken = channel < SOURCES * PARTS
    faults = tl.zeros((BLOCK, WIDTH), tl.float32)
    for step in range(steps):
        at = (program.to(tl.int64) * steps + step) * BLOCK + tl.arange(0, BLOCK)
        inside = (at < positions)[:, None]
        plane = (channel % SOURCES).to(tl.int64) * positions
        value = tl.load(image + plane[None, :] + at[:, None], inside & taken[None, :], other=0.0)
        # a comparison with NaN is false
        faults += tl.where(tl.abs(value) < INF, 0.0, float("nan"))
        value *= factor
        rounded = value.to(x.dtype.element_ty)
        error = (value - rounded.to(tl.float32)).to(x.dtype.element_ty)
        result = tl.where(first, rounded, error)
        place = x + at[:, None] * CHANNELS + channel[None, :]
        tl.store(place, result, inside & (channel < CHANNELS)[None, :])
    tl.store(check + batch * tl.num_programs(0) + program, tl.sum(tl.sum(faults, axis=1), axis=0))


@triton.jit
def image_gradient_kernel(
    gradient,
    output,  # [batch, CHANNELS, positions]
    positions,
    stride,
    batch_stride,
    factor,
    CHANNELS: tl.constexpr,
    WIDTH: tl.constexpr,  # CHANNELS rounded up to a power of two
    CHANNELS_LAST: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write BLOCK positions of all channels."""
    batch = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.arange(0, WIDTH)
    inside = (at < positions)[:, None] & (channel < CHANNELS)[None, :]
    gradient += batch * batch_stride
    value = tl.load(gradient + offsets(at, channel, stride, CHANNELS_LAST), inside, other=0.0)
    value = value.to(tl.float32) * factor
    output += batch * CHANNELS * positions
    place = output + offsets(at, channel, positions, False)
    tl.store(place, value.to(output.dtype.element_ty), inside)


def check_of(image: Tensor) -> Tensor:
    """Allocate the check of an image [B, C, H, W]."""
    batch, _, height, width = image.shape
    return image.new_empty(batch * _programs(height * width))


def _programs(positions: int) -> int:
    return ceil(positions / (BLOCK * _steps(positions)))


def _steps(positions: int) -> int:
    return ceil(positions / (BLOCK * MOST_PROGRAMS))


def input_launches(
    image: Tensor, x: Tensor, check: Tensor, factor: float, parts: int
) -> list[Launch]:
    """Plan the input `x` of a contiguous fp32 image, and its check.

    Args:
        image: [B, C, H, W].
        x: [B, C', H, W], dense and channels-last.
        check: from `check_of`.
        factor: of the image.
        parts: 1, or 2 with rounding errors.
    """
    batch, sources, height, width = image.shape
    positions, channels = height * width, x.shape[1]
    launch = Launch(
        network_input_kernel,
        (_programs(positions), batch),
        {
            "image": image,
            "x": x,
            "check": check,
            "positions": positions,
            "steps": _steps(positions),
            "factor": float(factor),
        },
        {
            "SOURCES": sources,
            "PARTS": parts,
            "CHANNELS": channels,
            "WIDTH": triton.next_power_of_2(channels),
            "BLOCK": BLOCK,
        },
    )
    return [launch]


def gradient_launches(gradient: Tensor, output: Tensor, factor: float) -> list[Launch]:
    """Plan output = factor * the first channels of the gradient.

    Args:
        gradient: [B, C', H, W], of any layout.
        output: [B, C, H, W], contiguous.
        factor: of the gradient.
    """
    source = matrix(gradient)
    batch, channels, height, width = output.shape
    launch = Launch(
        image_gradient_kernel,
        (ceil(height * width / BLOCK), batch),
        {
            "gradient": source.tensor,
            "output": output,
            "positions": height * width,
            "stride": source.stride,
            "batch_stride": source.batch_stride,
            "factor": float(factor),
        },
        {
            "CHANNELS": channels,
            "WIDTH": triton.next_power_of_2(channels),
            "CHANNELS_LAST": source.channels_last,
            "BLOCK": BLOCK,
        },
    )
    return [launch]
