"""The gradient of a 3 x 3 convolution's input: every row of dL/dy is read and multiplied once."""

from dataclasses import dataclass
from math import ceil

import torch
import triton
import triton.language as tl
from torch import Tensor

from stylekernels.ops.style.triton_tap import load_s, tap_factors, tap_gradient
from stylekernels.runtime.config import DgradConfig, TapDgradConfig, gpu_of, select
from stylekernels.runtime.launch import Launch


@triton.jit
def kernels(weight, k, n, K, C, k_stride, c_stride, i_stride, j_stride):
    """Load all kernels as [BK, 64]: row, column and channel at n = 16 row + 4 column + channel."""
    row, column, channel = n // 16, n // 4 % 4, n % 4
    at = k[:, None] * k_stride + (channel * c_stride + row * i_stride + column * j_stride)[None, :]
    there = (row < 3) & (column < 3) & (channel < C)
    return tl.load(weight + at, (k < K)[:, None] & there[None, :], other=0.0)


@triton.jit
def part(parts, index: tl.constexpr):
    """Return one of the four parts [BW, 4, N] that `parts` has, [BW, N]."""
    i = tl.arange(0, 4)[None, :, None]
    return tl.sum(tl.where(i == index, parts, 0.0), 1)


@triton.jit
def dgrad_kernel(
    gradient,
    y,  # of the strides of `gradient`; this and the next three with TAP
    s,  # [batch, K, K]
    scale,  # [batch]
    channel_scale,  # [K]
    weight,
    output,
    K,
    C,
    H,
    W,
    s_batch_stride,
    k_stride,
    c_stride,
    i_stride,
    j_stride,
    g_batch_stride,
    g_channel_stride,
    g_row_stride,
    g_column_stride,
    o_batch_stride,
    o_channel_stride,
    o_row_stride,
    o_column_stride,
    factor,
    ROWS: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_K: tl.constexpr,
    TAP: tl.constexpr,
    SCALED: tl.constexpr,
    CHANNEL_SCALE: tl.constexpr,
    PRECISION: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Write ROWS rows of BLOCK_W - 2 pixels.

    A pixel of dL/dy goes to three rows and three columns of dL/dx. All nine parts come out of one
    product. Two sums of rows are carried on to the next row; columns are brought together in a row
    that is complete. With TAP, dL/dy is the gradient of a tap, computed here from the one above it.
    """
    strips = tl.cdiv(W, BLOCK_W - 2)
    bands = tl.cdiv(H, ROWS)
    program = tl.program_id(0)
    batch = (program // (strips * bands)).to(tl.int64)
    first = program // strips % bands * ROWS
    place = tl.arange(0, BLOCK_W)
    w = program % strips * (BLOCK_W - 2) + place - 1
    k = tl.arange(0, BLOCK_K)
    gradient += batch * g_batch_stride
    y += batch * g_batch_stride
    output += batch * o_batch_stride
    b = kernels(weight, k, tl.arange(0, 64), K, C, k_stride, c_stride, i_stride, j_stride)
    if TAP:
        slope = load_s(s + batch * s_batch_stride, k, k, K)
        tap_factor, v = tap_factors(
            scale + batch, scale, channel_scale, k, K, SCALED, False, CHANNEL_SCALE
        )

    column = tl.arange(0, 16) // 4
    source = (place[:, None] + (BLOCK_W + 1 - column)[None, :]) % BLOCK_W
    j = tl.arange(0, 4)[None, :, None]
    channel = tl.arange(0, 4).to(tl.int64)
    above = tl.zeros((BLOCK_W, 16), tl.float32)  # the row before, but for this one's part
    own = tl.zeros((BLOCK_W, 16), tl.float32)  # this row, of those before it
    across = (w >= 0) & (w < W)
    columns = w.to(tl.int64)[:, None] * g_column_stride + k.to(tl.int64)[None, :] * g_channel_stride
    pixels = w.to(tl.int64)[:, None] * o_column_stride + channel[None, :] * o_channel_stride
    inner = across & (place > 0) & (place < BLOCK_W - 1)  # whose neighbors are in the block
    for step in tl.range(ROWS + 2, num_stages=STAGES):
        row = first + (step - 1)
        at = row.to(tl.int64) * g_row_stride + columns  # [BW, BK]
        inside = across[:, None] & (k < K)[None, :] & ((row >= 0) & (row < H))
        g = tl.load(gradient + at, inside, other=0.0)
        if TAP:
            x = tl.load(y + at, inside, other=0.0)
            product = tl.dot(x, slope, input_precision=PRECISION)
            total = tap_gradient(product, x, g, x, tap_factor, v, 0.0, True, False, True)
            g = total.to(g.dtype)
        parts = tl.dot(g, b, input_precision=PRECISION).reshape((BLOCK_W, 4, 16))
        complete = tl.gather(above + part(parts, 0), source, 0).reshape((BLOCK_W, 4, 4))
        pixel = tl.sum(tl.where(j < 3, complete, 0.0), 1)
        written = inner[:, None] & (channel < C)[None, :] & ((row > first) & (row <= H))
        target = output + (row - 1).to(tl.int64) * o_row_stride + pixels
        tl.store(target, (pixel * factor).to(output.dtype.element_ty), written)
        above = own + part(parts, 1)
        own = part(parts, 2)


@dataclass(frozen=True)
class StyleTap:
    """A tap whose gradient is still to be taken.

    Attributes:
        y: the activation, [B, K, H, W], of the strides of the gradient from above.
        s: from `style_loss_forward`, [B, K, K], contiguous.
        scale: of s, [B]; 1 if absent.
        channel_scale: v [K]; 1 if absent.
    """

    y: Tensor
    s: Tensor
    scale: Tensor | None = None
    channel_scale: Tensor | None = None


def launches(
    gradient: Tensor,
    weight: Tensor,
    output: Tensor,
    factor: float = 1.0,
    config: DgradConfig | None = None,
    tap: StyleTap | None = None,
) -> list[Launch]:
    """Plan the launch of `op.dgrad`, or with `tap` of `op.tap_dgrad`.

    Args:
        gradient: dL/dy, [B, K, H, W] of any strides.
        weight: [K, C, 3, 3] of any strides, with C of 4 at most.
        output: factor * dL/dx, [B, C, H, W] of any strides.
        factor: of the gradient.
        config: the blocks, if not the selected ones.
        tap: between the gradient and the convolution.
    """
    batch, K, H, W = gradient.shape
    kind = TapDgradConfig if tap else DgradConfig
    blocks = config or select(kind, gradient.dtype, K, H * W, gpu_of(gradient.device))
    scale = tap.scale if tap else None
    channel_scale = tap.channel_scale if tap else None
    strides = ("batch_stride", "channel_stride", "row_stride", "column_stride")
    names = ("k_stride", "c_stride", "i_stride", "j_stride")
    return [
        Launch(
            dgrad_kernel,
            (batch * ceil(H / blocks.rows) * ceil(W / (blocks.block_w - 2)),),
            {
                "gradient": gradient,
                "y": tap.y if tap else gradient,
                "s": tap.s if tap else gradient,
                "scale": gradient if scale is None else scale,
                "channel_scale": gradient if channel_scale is None else channel_scale,
                "weight": weight,
                "output": output,
                "K": K,
                "C": weight.shape[1],
                "H": H,
                "W": W,
                "s_batch_stride": tap.s.stride(0) if tap else 0,
                **dict(zip(names, weight.stride(), strict=True)),
                **{f"g_{name}": n for name, n in zip(strides, gradient.stride(), strict=True)},
                **{f"o_{name}": n for name, n in zip(strides, output.stride(), strict=True)},
                "factor": float(factor),
            },
            {
                "ROWS": blocks.rows,
                "BLOCK_W": blocks.block_w,
                "BLOCK_K": max(16, 1 << (K - 1).bit_length()),
                "TAP": tap is not None,
                "SCALED": scale is not None,
                "CHANNEL_SCALE": channel_scale is not None,
                "PRECISION": precision(gradient.dtype),
                "STAGES": blocks.num_stages,
            },
            blocks.num_warps,
            blocks.num_stages,
        )
    ]


def precision(dtype: torch.dtype) -> str:
    """Return how fp32 operands are multiplied: as torch's own convolutions are set to."""
    allowed = torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    return "tf32" if dtype == torch.float32 and allowed == "tf32" else "ieee"
