"""Launches of the Gram kernels: buffers, grids and strides for one layer or for several."""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, comb, prod

import torch
from torch import Tensor

from stylekernels.config import (
    BackwardConfig,
    FinishConfig,
    GramConfig,
    TapConfig,
    gpu_of,
    select,
)
from stylekernels.device.backward import tap_bwd_kernel
from stylekernels.device.finish import gram_finish_kernel
from stylekernels.device.gram import gram_fwd_kernel
from stylekernels.device.launch import Launch
from stylekernels.layout import Matrix, matrix


def precision(dtype: torch.dtype) -> str:
    """Return how fp32 operands are multiplied: as the caller set torch's own products to be."""
    if dtype == torch.float32 and torch.backends.cuda.matmul.fp32_precision == "tf32":
        return "tf32"
    return "ieee"


def _matrices(tensors: Sequence[Tensor], like: Sequence[Matrix]) -> list[Matrix]:
    return [matrix(t, m.channels_last) for t, m in zip(tensors, like, strict=True)]


def _written(tensors: Sequence[Tensor], like: Sequence[Matrix]) -> list[Matrix]:
    """See results as matrices; one that had to be copied would be written to nowhere."""
    matrices = _matrices(tensors, like)
    for t, m in zip(tensors, matrices, strict=True):
        if m.tensor is not t:
            raise ValueError(f"cannot write {tuple(t.shape)} with strides {t.stride()} in place")
    return matrices


def _tensors(matrices: Sequence[Matrix]) -> tuple[Tensor, ...]:
    return tuple(m.tensor for m in matrices)


def _strides(prefix: str, matrices: Sequence[Matrix]) -> dict[str, tuple[int, ...]]:
    return {
        f"{prefix}strides": tuple(m.stride for m in matrices),
        f"{prefix}batch_strides": tuple(m.batch_stride for m in matrices),
    }


def _uniform(xs: Sequence[Tensor]) -> list[Matrix]:
    """See all layers in one order, the first one's."""
    first = matrix(xs[0])
    return [first, *(matrix(x, first.channels_last) for x in xs[1:])]


def _first(counts: Sequence[int]) -> tuple[int, ...]:
    return tuple(sum(counts[:i]) for i in range(len(counts)))


def gram_configs(
    xs: Sequence[Tensor], kind: type[GramConfig], config: GramConfig | None = None
) -> tuple[GramConfig, list[int]]:
    """Return the blocks that all layers share, and the split of each."""
    gpu = gpu_of(xs[0].device)
    if config is not None:
        return config, [config.split] * len(xs)
    own = [select(kind, x.dtype, x.shape[1], prod(x.shape[2:]), gpu) for x in xs]
    if len(xs) == 1:
        return own[0], [own[0].split]
    shared = min(own, key=lambda c: c.block_c)
    splits = []
    for x, mine in zip(xs, own, strict=True):
        tiles, fewer = (comb(ceil(x.shape[1] / c.block_c) + 1, 2) for c in (shared, mine))
        splits.append(max(1, mine.split * fewer // tiles))
    return replace(shared, one_load=False, block_m=min(32, shared.block_m)), splits


def forward_launches(
    xs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    *,
    targets: Sequence[Tensor] | None = None,
    weights: Sequence[float] = (),
    losses: Tensor | None = None,
    ys: Sequence[Tensor] | None = None,
    contents: Sequence[Tensor] | None = None,
    content_weights: Sequence[float] = (),
    config: GramConfig | None = None,
    finish: FinishConfig | None = None,
) -> list[Launch]:
    """Plan the two launches that turn activations into Grams, or into losses and S.

    Args:
        xs: activations [B, C, H, W], one dtype.
        outputs: [B, C, C] each, G without `targets` and S with them.
        targets: Grams [C, C] or [B, C, C].
        weights: k of each layer.
        losses: [layers, 2] fp32, style and content, with `targets`.
        ys: where relu(x) goes; without it x is taken as it is.
        contents: content targets, one a layer.
        content_weights: c of each layer.
        config: the blocks of the first kernel, if not the selected ones.
        finish: the blocks of the second.
    """
    matrices = _uniform(xs)
    device = xs[0].device
    blocks, wanted = gram_configs(xs, GramConfig if ys is None else TapConfig, config)
    channels = tuple(x.shape[1] for x in xs)
    positions = tuple(prod(x.shape[2:]) for x in xs)
    batches = tuple(x.shape[0] for x in xs)
    spans = tuple(
        ceil(ceil(m / s) / blocks.block_m) * blocks.block_m
        for m, s in zip(positions, wanted, strict=True)
    )
    splits = tuple(ceil(m / span) for m, span in zip(positions, spans, strict=True))
    tiles = [comb(ceil(c / blocks.block_c) + 1, 2) for c in channels]
    programs = [b * s * t for b, s, t in zip(batches, splits, tiles, strict=True)]
    first = _first(programs)
    end = finish or select(FinishConfig, xs[0].dtype, max(channels), max(positions), gpu_of(device))
    block_e = min(end.block_e, blocks.block_c**2)
    finishers = [b * t * blocks.block_c**2 // block_e for b, t in zip(batches, tiles, strict=True)]

    def scratch(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=device)

    workspace = scratch(sum(programs), blocks.block_c, blocks.block_c)
    content_partials = scratch(sum(programs) if contents is not None else 1)
    ticket = scratch(1, dtype=torch.int32)
    y = _written(ys, matrices) if ys is not None else matrices
    p = _matrices(contents, matrices) if contents is not None else matrices
    shared = {"workspace": workspace, "content_partials": content_partials, "ticket": ticket}
    sizes = {"first": first, "channels": channels, "splits": splits}
    product = Launch(
        gram_fwd_kernel,
        (sum(programs),),
        {
            "xs": _tensors(matrices),
            "ys": _tensors(y),
            "contents": _tensors(p),
            **shared,
            **sizes,
            "positions": positions,
            "spans": spans,
            **_strides("", matrices),
            **_strides("y_", y),
            **_strides("p_", p),
        },
        {
            "LAYERS": len(xs),
            "BLOCK_M": blocks.block_m,
            "BLOCK_C": blocks.block_c,
            "CHANNELS_LAST": matrices[0].channels_last,
            "RELU": ys is not None,
            "CONTENT": contents is not None,
            "ONE_LOAD": blocks.one_load and max(channels) <= blocks.block_c,
            "PRECISION": precision(xs[0].dtype),
        },
        blocks.num_warps,
        blocks.num_stages,
    )
    style = targets is not None
    given = tuple(targets) if targets is not None else tuple(outputs)
    k = tuple(weights) or (0.0,) * len(xs)
    ending = Launch(
        gram_finish_kernel,
        (sum(finishers),),
        {
            **shared,
            **sizes,
            "targets": given,
            "gradients": tuple(outputs),
            "losses": losses if losses is not None else ticket,
            "partials": scratch(sum(finishers) if style else 1),
            "first_block": _first(finishers),
            "batches": batches,
            "target_strides": tuple(t.stride(0) if t.dim() == 3 else 0 for t in given),
            "mean_factors": tuple(1.0 / m for m in positions),
            "style_weights": k,
            "gradient_factors": tuple(4.0 * w / m for w, m in zip(k, positions, strict=True)),
            "content_weights": tuple(content_weights) or (0.0,) * len(xs),
        },
        {
            "LAYERS": len(xs),
            "BLOCK_C": blocks.block_c,
            "BLOCK_E": block_e,
            "BLOCK_S": end.block_s,
            "STYLE": style,
            "CONTENT": contents is not None,
        },
        end.num_warps,
        end.num_stages,
    )
    return [product, ending]


def backward_launches(
    xs: Sequence[Tensor],
    gradients: Sequence[Tensor],
    outputs: Sequence[Tensor],
    *,
    relu: bool,
    incoming: Sequence[Tensor] | None = None,
    loss_gradients: Sequence[Tensor] | None = None,
    contents: Sequence[Tensor] | None = None,
    content_weights: Sequence[float] = (),
    config: BackwardConfig | None = None,
) -> list[Launch]:
    """Plan the launch that writes (incoming + l_0 X S + l_1 2c (X - P)), masked with `relu`.

    Args:
        xs: activations [B, C, H, W]; with `relu` the outputs of the ReLU.
        gradients: S of each layer, [B, C, C] fp32, symmetric.
        outputs: dense, shaped as `xs`; may be `incoming` itself.
        relu: zero the gradient where x <= 0.
        incoming: gradients from above.
        loss_gradients: [2] each, what the style and the content loss are multiplied by.
        contents: content targets.
        content_weights: c of each layer.
        config: the blocks, if not the selected ones.
    """
    o = _written(outputs, _uniform(outputs))
    x = _matrices(xs, o)
    g = _matrices(incoming, o) if incoming is not None else x
    p = _matrices(contents, o) if contents is not None else x
    channels = tuple(t.shape[1] for t in xs)
    positions = tuple(prod(t.shape[2:]) for t in xs)
    largest = max(range(len(xs)), key=lambda i: positions[i])
    dtype = xs[0].dtype
    blocks = config or select(
        BackwardConfig, dtype, channels[largest], positions[largest], gpu_of(xs[0].device)
    )
    programs = [
        t.shape[0] * ceil(c / blocks.block_n) * ceil(m / blocks.block_m)
        for t, c, m in zip(xs, channels, positions, strict=True)
    ]
    wide = dtype == torch.float16
    launch = Launch(
        tap_bwd_kernel,
        (sum(programs),),
        {
            "xs": _tensors(x),
            "gradients": tuple(gradients),
            "incoming": _tensors(g),
            "contents": _tensors(p),
            "outputs": _tensors(o),
            "loss_gradients": tuple(loss_gradients or gradients),
            "first": _first(programs),
            "channels": channels,
            "positions": positions,
            **_strides("", x),
            "s_batch_strides": tuple(s.stride(0) for s in gradients),
            **_strides("g_", g),
            **_strides("p_", p),
            **_strides("o_", o),
            "content_factors": tuple(2.0 * c for c in content_weights) or (0.0,) * len(xs),
        },
        {
            "LAYERS": len(xs),
            "BLOCK_M": blocks.block_m,
            "BLOCK_N": blocks.block_n,
            "BLOCK_K": blocks.block_k,
            "CHANNELS_LAST": o[0].channels_last,
            "INCOMING": incoming is not None,
            "CONTENT": contents is not None,
            "LOSS_GRADIENT": loss_gradients is not None,
            "RELU": relu,
            "WIDE": wide,
            "PRECISION": "tf32" if wide else precision(dtype),
        },
        blocks.num_warps,
        blocks.num_stages,
    )
    return [launch]
