"""Total variation of an image, |dx| + |dy| or dx^2 + dy^2, and its gradient."""

from math import ceil

import triton
import triton.language as tl
from torch import Tensor

from stylekernels.runtime.config import PointwiseConfig, gpu_of, select
from stylekernels.runtime.launch import Launch
from stylekernels.runtime.triton_sum import total_launch


@triton.jit
def slope(d, SQUARED: tl.constexpr):
    """Return the derivative of |d| (torch's: 0 at 0 and at NaN) or of d^2."""
    if SQUARED:
        return 2.0 * d
    return tl.where(d > 0, 1.0, tl.where(d < 0, -1.0, 0.0))


@triton.jit
def tv_fwd_kernel(
    x,
    partials,
    channels,
    height,
    width,
    batch_stride,
    channel_stride,
    row_stride,
    column_stride,
    SQUARED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Leave the sum over BLOCK pixels of one row of one channel."""
    row = tl.program_id(0)
    h = row % height
    plane = row // height
    w = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    start = (plane // channels).to(tl.int64) * batch_stride
    start += (plane % channels).to(tl.int64) * channel_stride + h.to(tl.int64) * row_stride
    at = x + start + w.to(tl.int64) * column_stride
    center = tl.load(at, w < width, other=0.0).to(tl.float32)
    right = tl.load(at + column_stride, w + 1 < width, other=0.0).to(tl.float32)
    deep = h + 1 + 0 * w < height
    below = tl.load(at + row_stride, (w < width) & deep, other=0.0).to(tl.float32)
    dx = tl.where(w + 1 < width, right - center, 0.0)
    dy = tl.where((w < width) & deep, below - center, 0.0)
    value = dx * dx + dy * dy if SQUARED else tl.abs(dx) + tl.abs(dy)
    tl.store(partials + row * tl.num_programs(1) + tl.program_id(1), tl.sum(value))


@triton.jit
def tv_bwd_kernel(
    x,
    incoming,
    loss_gradient,
    output,
    channels,
    height,
    width,
    batch_stride,
    channel_stride,
    row_stride,
    column_stride,
    weight,
    SQUARED: tl.constexpr,
    INCOMING: tl.constexpr,
    LOSS_GRADIENT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write incoming + weight * the gradient; all have one layout, `output` may be `incoming`."""
    row = tl.program_id(0)
    h = row % height
    plane = row // height
    w = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    start = (plane // channels).to(tl.int64) * batch_stride
    start += (plane % channels).to(tl.int64) * channel_stride + h.to(tl.int64) * row_stride
    at = start + w.to(tl.int64) * column_stride
    inside = w < width
    center = tl.load(x + at, inside, other=0.0).to(tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    some = inside & (w > 0)
    other = tl.load(x + at - column_stride, some, other=0.0).to(tl.float32)
    total += tl.where(some, slope(center - other, SQUARED), 0.0)
    some = w + 1 < width
    other = tl.load(x + at + column_stride, some, other=0.0).to(tl.float32)
    total -= tl.where(some, slope(other - center, SQUARED), 0.0)
    some = inside & (h + 0 * w > 0)
    other = tl.load(x + at - row_stride, some, other=0.0).to(tl.float32)
    total += tl.where(some, slope(center - other, SQUARED), 0.0)
    some = inside & (h + 1 + 0 * w < height)
    other = tl.load(x + at + row_stride, some, other=0.0).to(tl.float32)
    total -= tl.where(some, slope(other - center, SQUARED), 0.0)
    if LOSS_GRADIENT:
        weight = weight * tl.load(loss_gradient).to(tl.float32)
    total *= weight
    if INCOMING:
        total += tl.load(incoming + at, inside, other=0.0).to(tl.float32)
    tl.store(output + at, total.to(output.dtype.element_ty), inside)


def _walk(x: Tensor, config: PointwiseConfig | None) -> tuple[PointwiseConfig, dict[str, int]]:
    batch, channels, height, width = x.shape
    del batch
    gpu = gpu_of(x.device)
    names = ("batch_stride", "channel_stride", "row_stride", "column_stride")
    sizes = {"channels": channels, "height": height, "width": width}
    blocks = config or select(PointwiseConfig, x.dtype, channels, height * width, gpu)
    return blocks, sizes | dict(zip(names, x.stride(), strict=True))


def _grid(x: Tensor, block: int) -> tuple[int, int]:
    batch, channels, height, width = x.shape
    return batch * channels * height, ceil(width / block)


def forward_launches(
    x: Tensor, loss: Tensor, weight: float, *, squared: bool, config: PointwiseConfig | None = None
) -> list[Launch]:
    """Plan the total variation of an image of any layout."""
    blocks, walk = _walk(x, config)
    grid = _grid(x, blocks.block)
    partials = loss.new_empty((grid[0] * grid[1],))
    launch = Launch(
        tv_fwd_kernel,
        grid,
        {"x": x, "partials": partials, **walk},
        {"SQUARED": squared, "BLOCK": blocks.block},
        blocks.num_warps,
        blocks.num_stages,
    )
    return [launch, total_launch(partials, loss, weight)]


def backward_launches(
    x: Tensor,
    output: Tensor,
    weight: float,
    *,
    squared: bool,
    incoming: Tensor | None = None,
    loss_gradient: Tensor | None = None,
    config: PointwiseConfig | None = None,
) -> list[Launch]:
    """Plan output = incoming + loss_gradient * the gradient, all with the strides of `x`."""
    blocks, walk = _walk(x, config)
    launch = Launch(
        tv_bwd_kernel,
        _grid(x, blocks.block),
        {
            "x": x,
            "incoming": x if incoming is None else incoming,
            "loss_gradient": x if loss_gradient is None else loss_gradient,
            "output": output,
            "weight": weight,
            **walk,
        },
        {
            "SQUARED": squared,
            "INCOMING": incoming is not None,
            "LOSS_GRADIENT": loss_gradient is not None,
            "BLOCK": blocks.block,
        },
        blocks.num_warps,
        blocks.num_stages,
    )
    return [launch]
