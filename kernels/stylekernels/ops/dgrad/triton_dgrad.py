"""The gradient of a 3 x 3 convolution's input: every row of dL/dy is multiplied once."""

from math import ceil

import torch
import triton
import triton.language as tl
from torch import Tensor

from stylekernels.runtime.config import DgradConfig, gpu_of, select
from stylekernels.runtime.launch import Launch


@triton.jit
def kernels(weight, k, n, j, K, C, k_stride, c_stride, i_stride, j_stride):
    """Load column j of the kernels as [BK, 16], their rows and channels at n = 4 row + channel."""
    row, channel = n // 4, n % 4
    at = k[:, None] * k_stride + (channel * c_stride + row * i_stride + j * j_stride)[None, :]
    return tl.load(weight + at, (k < K)[:, None] & ((row < 3) & (channel < C))[None, :], other=0.0)


@triton.jit
def dgrad_kernel(
    gradient,
    weight,
    output,
    K,
    C,
    H,
    W,
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
    PRECISION: tl.constexpr,
):
    """Write ROWS rows of BLOCK_W pixels.

    A row of dL/dy goes to three rows of dL/dx. All three come out of one product, whose 16 columns
    are the kernels' rows and the input's channels; two sums are carried on to the next row.
    """
    strips = tl.cdiv(W, BLOCK_W)
    bands = tl.cdiv(H, ROWS)
    program = tl.program_id(0)
    batch = (program // (strips * bands)).to(tl.int64)
    first = program // strips % bands * ROWS
    w = program % strips * BLOCK_W + tl.arange(0, BLOCK_W)
    k = tl.arange(0, BLOCK_K)
    n = tl.arange(0, 16)
    gradient += batch * g_batch_stride
    output += batch * o_batch_stride
    left = kernels(weight, k, n, 0, K, C, k_stride, c_stride, i_stride, j_stride)
    middle = kernels(weight, k, n, 1, K, C, k_stride, c_stride, i_stride, j_stride)
    right = kernels(weight, k, n, 2, K, C, k_stride, c_stride, i_stride, j_stride)

    i = tl.arange(0, 4)[None, :, None]
    channel = tl.arange(0, 4).to(tl.int64)
    above = tl.zeros((BLOCK_W, 4), tl.float32)  # the row before, but for this one's part
    own = tl.zeros((BLOCK_W, 4), tl.float32)  # this row, of those before it
    columns = w.to(tl.int64)[:, None] * g_column_stride + k.to(tl.int64)[None, :] * g_channel_stride
    pixels = w.to(tl.int64)[:, None] * o_column_stride + channel[None, :] * o_channel_stride
    for step in range(ROWS + 2):
        row = first + (step - 1)
        at = gradient + row.to(tl.int64) * g_row_stride + columns  # [BW, BK]
        inside = (k < K)[None, :] & ((row >= 0) & (row < H))
        after = tl.load(at + g_column_stride, inside & (w + 1 < W)[:, None], other=0.0)
        here = tl.load(at, inside & (w < W)[:, None], other=0.0)
        before = tl.load(at - g_column_stride, inside & ((w > 0) & (w <= W))[:, None], other=0.0)
        total = tl.dot(after, left, input_precision=PRECISION)
        total = tl.dot(here, middle, total, input_precision=PRECISION)
        total = tl.dot(before, right, total, input_precision=PRECISION)  # [BW, 16]
        parts = total.reshape((BLOCK_W, 4, 4))
        above += tl.sum(tl.where(i == 0, parts, 0.0), 1)
        written = (w < W)[:, None] & (channel < C)[None, :] & ((row > first) & (row <= H))
        target = output + (row - 1).to(tl.int64) * o_row_stride + pixels
        tl.store(target, (above * factor).to(output.dtype.element_ty), written)
        above = own + tl.sum(tl.where(i == 1, parts, 0.0), 1)
        own = tl.sum(tl.where(i == 2, parts, 0.0), 1)


def launches(
    gradient: Tensor,
    weight: Tensor,
    output: Tensor,
    factor: float = 1.0,
    config: DgradConfig | None = None,
) -> list[Launch]:
    """Plan the launch of `op.dgrad`.

    Args:
        gradient: dL/dy, [B, K, H, W] of any strides.
        weight: [K, C, 3, 3] of any strides, with C of 4 at most.
        output: factor * dL/dx, [B, C, H, W] of any strides.
        factor: of the gradient.
        config: the blocks, if not the selected ones.
    """
    batch, K, H, W = gradient.shape
    blocks = config or select(DgradConfig, gradient.dtype, K, H * W, gpu_of(gradient.device))
    strides = ("batch_stride", "channel_stride", "row_stride", "column_stride")
    names = ("k_stride", "c_stride", "i_stride", "j_stride")
    return [
        Launch(
            dgrad_kernel,
            (batch * ceil(H / blocks.rows) * ceil(W / blocks.block_w),),
            {
                "gradient": gradient,
                "weight": weight,
                "output": output,
                "K": K,
                "C": weight.shape[1],
                "H": H,
                "W": W,
                **dict(zip(names, weight.stride(), strict=True)),
                **{f"g_{name}": n for name, n in zip(strides, gradient.stride(), strict=True)},
                **{f"o_{name}": n for name, n in zip(strides, output.stride(), strict=True)},
                "factor": float(factor),
            },
            {
                "ROWS": blocks.rows,
                "BLOCK_W": blocks.block_w,
                "BLOCK_K": max(16, 1 << (K - 1).bit_length()),
                "PRECISION": precision(gradient.dtype),
            },
            blocks.num_warps,
            blocks.num_stages,
        )
    ]


def precision(dtype: torch.dtype) -> str:
    """Return how fp32 operands are multiplied: as torch's own convolutions are set to."""
    allowed = torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    return "tf32" if dtype == torch.float32 and allowed == "tf32" else "ieee"
