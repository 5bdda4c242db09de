"""Pointwise kernels: bias with ReLU, the content loss, its gradient."""

from math import ceil

import triton
import triton.language as tl
from torch import Tensor

from stylekernels.runtime.config import PointwiseConfig, gpu_of, select
from stylekernels.runtime.launch import Launch
from stylekernels.runtime.triton_sum import total_launch

STEPS = 8
"""Blocks a program of a summing kernel takes: fewer partials than elements by far."""


@triton.jit
def relu(x):
    """ReLU that lets NaN through, as torch's does."""
    return tl.where(x <= 0, 0.0, x).to(x.dtype)


@triton.jit
def bias_relu_kernel(x, bias, count, inner, channels, BLOCK: tl.constexpr):
    """Write relu(x + bias) over BLOCK numbers of x, whose channel changes every `inner` of them."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    value = tl.load(x + at, inside, other=0.0).to(tl.float32)
    value += channel_factors(bias, at, inside, inner, channels)
    tl.store(x + at, relu(value).to(x.dtype.element_ty), inside)


@triton.jit
def channel_factors(factors, at, inside, inner, channels):
    """Load the factors of the channels of numbers, which change every `inner` of them."""
    return tl.load(factors + at // inner % channels, inside, other=0.0).to(tl.float32)


@triton.jit
def content_fwd_kernel(
    x,
    target,
    channel_scale,
    partials,
    count,
    inner,
    channels,
    BLOCK: tl.constexpr,
    STEPS: tl.constexpr,
    CHANNEL_SCALE: tl.constexpr,
):
    """Leave the sum of (v x - target)^2 over STEPS blocks."""
    program = tl.program_id(0)
    total = tl.zeros((BLOCK,), tl.float32)
    for step in range(STEPS):
        at = (program.to(tl.int64) * STEPS + step) * BLOCK + tl.arange(0, BLOCK)
        inside = at < count
        d = tl.load(x + at, inside, other=0.0).to(tl.float32)
        if CHANNEL_SCALE:
            d *= channel_factors(channel_scale, at, inside, inner, channels)
        d -= tl.load(target + at, inside, other=0.0).to(tl.float32)
        total += d * d
    tl.store(partials + program, tl.sum(total))


@triton.jit
def content_bwd_kernel(
    x,
    target,
    incoming,
    loss_gradient,
    channel_scale,
    output,
    count,
    inner,
    channels,
    factor,
    BLOCK: tl.constexpr,
    INCOMING: tl.constexpr,
    LOSS_GRADIENT: tl.constexpr,
    CHANNEL_SCALE: tl.constexpr,
    RELU: tl.constexpr,
):
    """Write incoming + factor * v (v x - target), perhaps masked; `output` may be `incoming`."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    own = tl.load(x + at, inside, other=0.0).to(tl.float32)
    d = own
    v = 1.0
    if CHANNEL_SCALE:
        v = channel_factors(channel_scale, at, inside, inner, channels)
        d *= v
    d -= tl.load(target + at, inside, other=0.0).to(tl.float32)
    if LOSS_GRADIENT:
        factor = factor * tl.load(loss_gradient).to(tl.float32)
    d *= factor * v
    if INCOMING:
        d += tl.load(incoming + at, inside, other=0.0).to(tl.float32)
    if RELU:
        d = tl.where(own <= 0, 0.0, d)
    tl.store(output + at, d.to(output.dtype.element_ty), inside)


def bias_relu_launches(
    x: Tensor, bias: Tensor, config: PointwiseConfig | None = None
) -> list[Launch]:
    """Plan x = relu(x + bias) for a dense `x` in either memory format."""
    blocks = config or select(PointwiseConfig, x.dtype, 1, x.numel(), gpu_of(x.device))
    arguments = {
        "x": x,
        "bias": bias,
        "count": x.numel(),
        **_channels(x),
    }
    return [
        Launch(
            bias_relu_kernel,
            (ceil(x.numel() / blocks.block),),
            arguments,
            {"BLOCK": blocks.block},
            blocks.num_warps,
            blocks.num_stages,
        )
    ]


def _channels(x: Tensor) -> dict[str, int]:
    """Describe the order of a dense tensor's channels, for `channel_factors`."""
    return {"inner": x.stride(1) if x.shape[1] > 1 else 1, "channels": x.shape[1]}


def content_forward_launches(
    x: Tensor,
    target: Tensor,
    loss: Tensor,
    weight: float,
    channel_scale: Tensor | None = None,
    config: PointwiseConfig | None = None,
) -> list[Launch]:
    """Plan the content loss of two dense tensors that lie in the same order."""
    blocks = config or select(PointwiseConfig, x.dtype, 1, x.numel(), gpu_of(x.device))
    programs = ceil(x.numel() / (blocks.block * STEPS))
    partials = loss.new_empty((programs,))
    launch = Launch(
        content_fwd_kernel,
        (programs,),
        {
            "x": x,
            "target": target,
            "channel_scale": x if channel_scale is None else channel_scale,
            "partials": partials,
            "count": x.numel(),
            **_channels(x),
        },
        {"BLOCK": blocks.block, "STEPS": STEPS, "CHANNEL_SCALE": channel_scale is not None},
        blocks.num_warps,
        blocks.num_stages,
    )
    return [launch, total_launch(partials, loss, weight)]


def content_backward_launches(
    x: Tensor,
    target: Tensor,
    output: Tensor,
    weight: float,
    incoming: Tensor | None = None,
    loss_gradient: Tensor | None = None,
    channel_scale: Tensor | None = None,
    config: PointwiseConfig | None = None,
    *,
    relu: bool = False,
) -> list[Launch]:
    """Plan output = incoming + loss_gradient * 2 weight v (v x - target), all in one order.

    With `relu` it is 0 where x is not above 0.
    """
    blocks = config or select(PointwiseConfig, x.dtype, 1, x.numel(), gpu_of(x.device))
    launch = Launch(
        content_bwd_kernel,
        (ceil(x.numel() / blocks.block),),
        {
            "x": x,
            "target": target,
            "incoming": x if incoming is None else incoming,
            "loss_gradient": x if loss_gradient is None else loss_gradient,
            "channel_scale": x if channel_scale is None else channel_scale,
            "output": output,
            "count": x.numel(),
            **_channels(x),
            "factor": 2.0 * weight,
        },
        {
            "BLOCK": blocks.block,
            "INCOMING": incoming is not None,
            "LOSS_GRADIENT": loss_gradient is not None,
            "CHANNEL_SCALE": channel_scale is not None,
            "RELU": relu,
        },
        blocks.num_warps,
        blocks.num_stages,
    )
    return [launch]
