"""Launches of the forward Gram kernels: buffers, grids and strides."""

from math import ceil, comb

import torch
from torch import Tensor

from stylekernels.ops.style.terms import Style
from stylekernels.ops.style.triton_finish import gram_finish_kernel
from stylekernels.ops.style.triton_gram import gram_fwd_kernel
from stylekernels.runtime.config import FinishConfig, GramConfig, gpu_of, select
from stylekernels.runtime.launch import Launch
from stylekernels.runtime.layout import matrix


def precision(dtype: torch.dtype) -> str:
    """Return how fp32 operands are multiplied: as the caller set torch's own products to be."""
    if dtype == torch.float32 and torch.backends.cuda.matmul.fp32_precision == "tf32":
        return "tf32"
    return "ieee"


def forward_launches(
    x: Tensor,
    output: Tensor,
    style: Style | None = None,
    *,
    config: GramConfig | None = None,
    finish: FinishConfig | None = None,
) -> list[Launch]:
    """Plan the two launches that turn an activation into its Gram, or into its loss and S.

    Args:
        x: [B, C, H, W].
        output: [B, C, C]: G in fp32, or with `style` S in the dtype of `x`.
        style: the loss to be taken of G.
        config: the blocks of the first kernel, if not the selected ones.
        finish: the blocks of the second.
    """
    source = matrix(x)
    batch, C, height, width = x.shape
    M = height * width
    gpu = gpu_of(x.device)
    blocks = config or select(GramConfig, x.dtype, C, M, gpu)
    end = finish or select(FinishConfig, x.dtype, C, M, gpu)
    # positions a program, in whole steps
    span = ceil(ceil(M / blocks.split) / blocks.block_m) * blocks.block_m
    splits = ceil(M / span)
    tiles = comb(ceil(C / blocks.block_c) + 1, 2)
    programs = batch * splits * tiles
    block_e = min(end.block_e, blocks.block_c**2)
    finishers = batch * tiles * blocks.block_c**2 // block_e
    taken = style is not None
    style = style or Style(output, 0.0, output, output)  # of which nothing is read
    fitted = taken and output.dtype == torch.float16
    channel_scale = style.channel_scale
    target_stride = style.target.stride(0) if style.target.dim() == 3 else 0

    def memory(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return output.new_empty(shape, dtype=dtype)

    workspace = memory(programs, blocks.block_c, blocks.block_c)
    ticket = memory(1, dtype=torch.int32)
    bounds = memory(programs if fitted else 1, 2)
    product = Launch(
        gram_fwd_kernel,
        (programs,),
        {
            "x": source.tensor,
            "workspace": workspace,
            "ticket": ticket,
            "target": style.target,
            "bounds": bounds,
            "C": C,
            "M": M,
            "splits": splits,
            "span": span,
            "stride": source.stride,
            "batch_stride": source.batch_stride,
            "target_stride": target_stride,
        },
        {
            "BLOCK_M": blocks.block_m,
            "BLOCK_C": blocks.block_c,
            "CHANNELS_LAST": source.channels_last,
            "ONE_LOAD": blocks.one_load and blocks.block_c >= C,
            "BOUND": fitted,
            "PRECISION": precision(x.dtype),
        },
        blocks.num_warps,
        blocks.num_stages,
    )
    ending = Launch(
        gram_finish_kernel,
        (finishers,),
        {
            "workspace": workspace,
            "target": style.target,
            "output": output,
            "loss": style.loss,
            "scale": style.scale,
            "channel_scale": output if channel_scale is None else channel_scale,
            "bounds": bounds,
            "partials": memory(finishers if taken else 1),
            "ticket": ticket,
            "C": C,
            "splits": splits,
            "target_stride": target_stride,
            "mean_factor": 1.0 / M,
            "weight": float(style.weight),
            "gradient_factor": 4.0 * style.weight / M,
        },
        {
            "BLOCK_C": blocks.block_c,
            "BLOCK_E": block_e,
            "BLOCK_S": end.block_s,
            "STYLE": taken,
            "CHANNEL_SCALE": channel_scale is not None,
            "FITTED": fitted,
        },
        end.num_warps,
        end.num_stages,
    )
    return [product, ending]
