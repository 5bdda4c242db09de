"""Launches of a tap's gradient: (g + v (X (scale s)^T + 2c (v X - P))) masked by the ReLU."""

from math import ceil
from typing import Unpack

from torch import Tensor

from stylekernels.ops.style.cpu import narrowed
from stylekernels.ops.style.terms import Terms
from stylekernels.ops.style.triton_launches import precision
from stylekernels.ops.style.triton_tap import tap_bwd_kernel, tap_bwd_resident_kernel
from stylekernels.runtime.config import BackwardConfig, gpu_of, select
from stylekernels.runtime.launch import Launch, run_all
from stylekernels.runtime.layout import matrix


def backward_launches(
    x: Tensor,
    s: Tensor,
    output: Tensor,
    *,
    config: BackwardConfig | None = None,
    **terms: Unpack[Terms],
) -> list[Launch]:
    """Plan the launch of `op.write_gradient`.

    Args:
        x: the activation, [B, C, H, W].
        s: [B, C, C], contiguous.
        output: dense, shaped as `x`; may be `incoming` itself.
        config: the blocks, if not the selected ones.
        terms: see `Terms`.

    Raises:
        ValueError: `output` cannot be written in place.
    """
    o = matrix(output)
    if o.tensor is not output:
        shape = tuple(output.shape)
        raise ValueError(f"cannot write {shape} with strides {output.stride()} in place")
    incoming, content = terms.get("incoming"), terms.get("content")
    scale, loss_gradient = terms.get("scale"), terms.get("loss_gradient")
    channel_scale = terms.get("channel_scale")
    source = matrix(x, o.channels_last)
    g = source if incoming is None else matrix(incoming, o.channels_last)
    p = source if content is None else matrix(content, o.channels_last)
    if s.dtype != x.dtype:
        s, own_scale = narrowed(s, x.dtype)
        scale = own_scale if scale is None else scale * own_scale
    batch, C, height, width = x.shape
    M = height * width
    blocks = config or select(BackwardConfig, x.dtype, C, M, gpu_of(x.device))
    # a target's block would not fit beside them: fewer rows, and nothing kept
    resident = blocks.programs > 0 and blocks.block_k >= C and content is None
    block_m = blocks.block_m if content is None else min(blocks.block_m, 64)
    row_blocks = ceil(M / block_m)
    arguments = {
        "x": source.tensor,
        "s": s,
        "scale": s if scale is None else scale,
        "incoming": g.tensor,
        "content": p.tensor,
        "output": output,
        "loss_gradient": s if loss_gradient is None else loss_gradient,
        "channel_scale": s if channel_scale is None else channel_scale,
        "C": C,
        "M": M,
        "stride": source.stride,
        "batch_stride": source.batch_stride,
        "s_batch_stride": s.stride(0),
        "g_stride": g.stride,
        "g_batch_stride": g.batch_stride,
        "p_stride": p.stride,
        "p_batch_stride": p.batch_stride,
        "o_stride": o.stride,
        "o_batch_stride": o.batch_stride,
        "content_factor": 2.0 * terms.get("content_weight", 0.0),
    }
    constants = {
        "BLOCK_M": block_m,
        "BLOCK_N": blocks.block_n,
        "BLOCK_K": blocks.block_k,
        "CHANNELS_LAST": o.channels_last,
        "SCALED": scale is not None,
        "INCOMING": incoming is not None,
        "CONTENT": content is not None,
        "LOSS_GRADIENT": loss_gradient is not None,
        "CHANNEL_SCALE": channel_scale is not None,
        "RELU": terms["relu"],
        "PRECISION": precision(x.dtype),
    }
    columns = batch * ceil(C / blocks.block_n)
    if resident:
        programs = min(row_blocks, max(1, blocks.programs // columns))
        arguments["programs"] = programs
        constants["STAGES"] = blocks.num_stages
        return [
            Launch(
                tap_bwd_resident_kernel,
                (columns * programs,),
                arguments,
                constants,
                blocks.num_warps,
                blocks.num_stages,
            )
        ]
    stages = 1 if blocks.block_k >= C else blocks.num_stages
    grid = (columns * row_blocks,)
    return [Launch(tap_bwd_kernel, grid, arguments, constants, blocks.num_warps, stages)]


def run_backward(
    x: Tensor,
    s: Tensor,
    output: Tensor,
    *,
    config: BackwardConfig | None = None,
    **terms: Unpack[Terms],
) -> None:
    """Run `backward_launches`."""
    run_all(backward_launches(x, s, output, config=config, **terms))
