"""Launches of the forward Gram kernels: buffers, grids and strides."""

from math import ceil, comb

import torch
from torch import Tensor

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
    *,
    target: Tensor | None = None,
    weight: float = 0.0,
    loss: Tensor | None = None,
    config: GramConfig | None = None,
    finish: FinishConfig | None = None,
) -> list[Launch]:
    """Plan the two launches that turn an activation into its Gram, or into its loss and S.

    Args:
        x: [B, C, H, W].
        output: [B, C, C] fp32: G without `target`, S with it.
        target: a Gram, [C, C] or [B, C, C].
        weight: k.
        loss: a scalar, fp32, with `target`.
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
    style = target is not None
    target = output if target is None else target
    workspace = output.new_empty(programs, blocks.block_c, blocks.block_c)
    ticket = output.new_empty(1, dtype=torch.int32)
    product = Launch(
        gram_fwd_kernel,
        (programs,),
        {
            "x": source.tensor,
            "workspace": workspace,
            "ticket": ticket,
            "C": C,
            "M": M,
            "splits": splits,
            "span": span,
            "stride": source.stride,
            "batch_stride": source.batch_stride,
        },
        {
            "BLOCK_M": blocks.block_m,
            "BLOCK_C": blocks.block_c,
            "CHANNELS_LAST": source.channels_last,
            "ONE_LOAD": blocks.one_load and blocks.block_c >= C,
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
            "target": target,
            "output": output,
            "loss": output if loss is None else loss,
            "partials": output.new_empty(finishers if style else 1),
            "ticket": ticket,
            "C": C,
            "splits": splits,
            "target_stride": target.stride(0) if target.dim() == 3 else 0,
            "mean_factor": 1.0 / M,
            "weight": float(weight),
            "gradient_factor": 4.0 * weight / M,
        },
        {
            "BLOCK_C": blocks.block_c,
            "BLOCK_E": block_e,
            "BLOCK_S": end.block_s,
            "STYLE": style,
        },
        end.num_warps,
        end.num_stages,
    )
    return [product, ending]
