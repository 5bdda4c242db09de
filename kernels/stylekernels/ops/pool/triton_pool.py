"""ReLU and 2 x 2 pooling in one kernel, forward and backward.

An activation is `planes` images of [height, width] elements that each are `inner` contiguous
numbers: in channels-last memory B planes of C numbers, in NCHW memory B * C planes of one.
"""

from math import ceil

import triton
import triton.language as tl
from torch import Tensor

from stylekernels.ops.pointwise.triton_stream import relu
from stylekernels.runtime.config import PointwiseConfig, gpu_of, select
from stylekernels.runtime.launch import Launch


@triton.jit
def larger(a, b):
    """Return the maximum, or the NaN among the two."""
    return tl.where((b > a) | (b != b), b, a)


@triton.jit
def relu_pool_fwd_kernel(
    x, y, code, height, width, INNER: tl.constexpr, MAXIMUM: tl.constexpr, BLOCK: tl.constexpr
):
    """Write BLOCK numbers of one pooled row, and which inputs their gradient goes to."""
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
    if MAXIMUM:
        above, below = larger(a, b), larger(c, d)
        value = larger(above, below)
        # the first of equals has it, as in torch; of several NaN the last
        upper = tl.where((b > a) | (b != b), 2, 1)
        lower = tl.where((d > c) | (d != d), 8, 4)
        bits = tl.where((below > above) | (below != below), lower, upper)
        bits = tl.where(value <= 0, 0, bits)
    else:
        value = (a + b + c + d) * 0.25
        # not a > 0: the gradient passes a NaN, as in torch
        bits = tl.where(a <= 0, 0, 1) + tl.where(b <= 0, 0, 2)
        bits += tl.where(c <= 0, 0, 4) + tl.where(d <= 0, 0, 8)
    out = row.to(tl.int64) * columns + at
    tl.store(y + out, value.to(y.dtype.element_ty), inside)
    tl.store(code + out, bits.to(tl.uint8), inside)


@triton.jit
def relu_pool_bwd_kernel(
    grad,
    code,
    output,
    height,
    width,
    INNER: tl.constexpr,
    SHARE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the gradient of BLOCK windows of one row; ragged edges of odd sizes get zero."""
    rows = (height + 1) // 2
    row = tl.program_id(0)
    plane = (row // rows).to(tl.int64)
    window_row = row % rows
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    pixel = at // INNER
    line = width * INNER
    left = (plane * height + window_row * 2) * line + at + pixel * INNER
    column = pixel * 2 < width
    right = pixel * 2 + 1 < width
    below = window_row * 2 + 1 + 0 * at < height

    window = (plane * (height // 2) + window_row) * (width // 2 * INNER) + at
    g = tl.load(grad + window, right & below, other=0.0).to(tl.float32) * SHARE
    bits = tl.load(code + window, right & below, other=0).to(tl.int32)
    g = g.to(output.dtype.element_ty)
    none = tl.zeros_like(g)
    tl.store(output + left, tl.where((bits & 1) != 0, g, none), column)
    tl.store(output + left + INNER, tl.where((bits & 2) != 0, g, none), right)
    tl.store(output + left + line, tl.where((bits & 4) != 0, g, none), column & below)
    tl.store(output + left + line + INNER, tl.where((bits & 8) != 0, g, none), right & below)


def _planes(x: Tensor) -> tuple[int, int]:
    """Return (planes, inner) of a dense activation."""
    batch, channels = x.shape[:2]
    return (batch * channels, 1) if x.is_contiguous() else (batch, channels)


def forward_launches(
    x: Tensor, y: Tensor, code: Tensor, *, maximum: bool, config: PointwiseConfig | None = None
) -> list[Launch]:
    """Plan the pooling of a dense `x` into dense `y` and `code` of the same memory format."""
    planes, inner = _planes(x)
    height, width = x.shape[2:]
    blocks = config or select(PointwiseConfig, x.dtype, inner, height * width, gpu_of(x.device))
    launch = Launch(
        relu_pool_fwd_kernel,
        (planes * (height // 2), ceil(width // 2 * inner / blocks.block)),
        {"x": x, "y": y, "code": code, "height": height, "width": width},
        {"INNER": inner, "MAXIMUM": maximum, "BLOCK": blocks.block},
        blocks.num_warps,
        blocks.num_stages,
    )
    return [launch]


def backward_launches(
    grad: Tensor,
    code: Tensor,
    output: Tensor,
    *,
    maximum: bool,
    config: PointwiseConfig | None = None,
) -> list[Launch]:
    """Plan the pooling's gradient into a dense `output`; all have one memory format."""
    planes, inner = _planes(output)
    height, width = output.shape[2:]
    gpu = gpu_of(output.device)
    blocks = config or select(PointwiseConfig, output.dtype, inner, height * width, gpu)
    launch = Launch(
        relu_pool_bwd_kernel,
        (planes * ceil(height / 2), ceil(ceil(width / 2) * inner / blocks.block)),
        {"grad": grad, "code": code, "output": output, "height": height, "width": width},
        {"INNER": inner, "SHARE": 1.0 if maximum else 0.25, "BLOCK": blocks.block},
        blocks.num_warps,
        blocks.num_stages,
    )
    return [launch]
