"""ReLU and 2 x 2 pooling in one kernel, forward and backward.

An activation is `planes` images of [height, width] elements that each are `inner` contiguous
numbers: in channels-last memory B planes of C numbers, in NCHW memory B * C planes of one.
"""

from math import ceil

import triton
import triton.language as tl
from torch import Tensor

from stylekernels.config import PointwiseConfig, gpu_of, select
from stylekernels.device.gram import relu
from stylekernels.device.launch import Launch


@triton.jit
def larger(a, b):
    """Return the maximum, or the NaN among the two."""
    return tl.where((b > a) | (b != b), b, a)


@triton.jit
def relu_pool_fwd_kernel(
    x, y, height, width, INNER: tl.constexpr, MAXIMUM: tl.constexpr, BLOCK: tl.constexpr
):
    """Write BLOCK numbers of one pooled row."""
    rows = height // 2
    row = tl.program_id(0)
    columns = width // 2 * INNER
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < columns
    line = width * INNER
    top = x + ((row // rows).to(tl.int64) * height + row % rows * 2) * line
    left = at + at // INNER * INNER  # two pixels in for every one out
    a = relu(tl.load(top + left, inside, other=0.0).to(tl.float32))
    b = relu(tl.load(top + left + INNER, inside, other=0.0).to(tl.float32))
    c = relu(tl.load(top + line + left, inside, other=0.0).to(tl.float32))
    d = relu(tl.load(top + line + left + INNER, inside, other=0.0).to(tl.float32))
    value = larger(larger(larger(a, b), c), d) if MAXIMUM else (a + b + c + d) * 0.25
    tl.store(y + row.to(tl.int64) * columns + at, value.to(y.dtype.element_ty), inside)


@triton.jit
def relu_pool_bwd_kernel(
    grad, x, output, height, width, INNER: tl.constexpr, MAXIMUM: tl.constexpr, BLOCK: tl.constexpr
):
    """Write the gradient of BLOCK windows of one row; ragged edges of odd sizes get zero.

    Each window is read and written by one program only, so `output` may be `x`.
    """
    rows = (height + 1) // 2
    row = tl.program_id(0)
    plane = (row // rows).to(tl.int64)
    window_row = row % rows
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    pixel = at // INNER
    line = width * INNER
    start = (plane * height + window_row * 2) * line
    left = at + pixel * INNER
    here = pixel * 2 < width
    right = pixel * 2 + 1 < width
    below = window_row * 2 + 1 + 0 * at < height
    a = relu(tl.load(x + start + left, here, other=0.0).to(tl.float32))
    b = relu(tl.load(x + start + left + INNER, right, other=0.0).to(tl.float32))
    c = relu(tl.load(x + start + line + left, here & below, other=0.0).to(tl.float32))
    d = relu(tl.load(x + start + line + left + INNER, right & below, other=0.0).to(tl.float32))

    columns = width // 2 * INNER
    g_at = (plane * (height // 2) + window_row) * columns + at
    g = tl.load(grad + g_at, right & below, other=0.0).to(tl.float32)
    if MAXIMUM:
        # the first of equals has it, as in torch; of several NaN the last
        taken = (d > larger(larger(a, b), c)) | (d != d)
        gd = tl.where(taken, g, 0.0)
        gc = tl.where(~taken & ((c > larger(a, b)) | (c != c)), g, 0.0)
        taken = taken | (c > larger(a, b)) | (c != c)
        gb = tl.where(~taken & ((b > a) | (b != b)), g, 0.0)
        ga = tl.where(taken | (b > a) | (b != b), 0.0, g)
    else:
        ga = g * 0.25
        gb = ga
        gc = ga
        gd = ga
    kind = output.dtype.element_ty
    tl.store(output + start + left, tl.where(a <= 0, 0.0, ga).to(kind), here)
    tl.store(output + start + left + INNER, tl.where(b <= 0, 0.0, gb).to(kind), right)
    tl.store(output + start + line + left, tl.where(c <= 0, 0.0, gc).to(kind), here & below)
    tl.store(
        output + start + line + left + INNER, tl.where(d <= 0, 0.0, gd).to(kind), right & below
    )


def _planes(x: Tensor) -> tuple[int, int]:
    """Return (planes, inner) of a dense activation."""
    batch, channels = x.shape[:2]
    return (batch * channels, 1) if x.is_contiguous() else (batch, channels)


def forward_launches(
    x: Tensor, y: Tensor, *, maximum: bool, config: PointwiseConfig | None = None
) -> list[Launch]:
    """Plan the pooling of a dense `x` into a dense `y` of the same memory format."""
    planes, inner = _planes(x)
    height, width = x.shape[2:]
    blocks = config or select(PointwiseConfig, x.dtype, inner, height * width, gpu_of(x.device))
    launch = Launch(
        relu_pool_fwd_kernel,
        (planes * (height // 2), ceil(width // 2 * inner / blocks.block)),
        {"x": x, "y": y, "height": height, "width": width},
        {"INNER": inner, "MAXIMUM": maximum, "BLOCK": blocks.block},
        blocks.num_warps,
        blocks.num_stages,
    )
    return [launch]


def backward_launches(
    grad: Tensor,
    x: Tensor,
    output: Tensor,
    *,
    maximum: bool,
    config: PointwiseConfig | None = None,
) -> list[Launch]:
    """Plan the gradient of a dense `x`; `output` lies as `x` does and may be `x`."""
    planes, inner = _planes(x)
    height, width = x.shape[2:]
    blocks = config or select(PointwiseConfig, x.dtype, inner, height * width, gpu_of(x.device))
    launch = Launch(
        relu_pool_bwd_kernel,
        (planes * ceil(height / 2), ceil(ceil(width / 2) * inner / blocks.block)),
        {"grad": grad, "x": x, "output": output, "height": height, "width": width},
        {"INNER": inner, "MAXIMUM": maximum, "BLOCK": blocks.block},
        blocks.num_warps,
        blocks.num_stages,
    )
    return [launch]
