"""The style losses of all layers as one group: two launches forward and one backward.

At 512 pixels the five Grams are a few microseconds of work each: launched one by one they cost
more to start than to run.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stylekernels.dispatch import uses_triton
from stylekernels.gradient import gradient_twin
from stylekernels.layout import (
    accumulator,
    output_format,
    require_activation,
    require_target,
)
from stylekernels.operators import operator, refuse_second_derivative
from stylekernels.style import style_loss_twin


def style_losses(
    xs: Sequence[Tensor], targets: Sequence[Tensor], weights: Sequence[float]
) -> Tensor:
    """Return weights[l] * ||G(xs[l]) - targets[l]||_F^2 of every layer.

    Deterministic; differentiable once, with respect to `xs` alone.

    Args:
        xs: one activation [B, C, H, W] a layer, all of one dtype and device; a layer that is not
            in the memory format of the first is copied.
        targets: one Gram a layer, [C, C] or [B, C, C].
        weights: k of each layer.

    Returns:
        [layers], fp32 (fp64 for fp64).

    Raises:
        ValueError: nothing given, lengths that differ, or a shape or device that does not fit.
        TypeError: a tensor is not floating, or the dtypes differ.
    """
    return style_losses_forward(xs, targets, weights)[0]


def style_losses_forward(
    xs: Sequence[Tensor], targets: Sequence[Tensor], weights: Sequence[float]
) -> tuple[Tensor, list[Tensor]]:
    """Return the losses [layers], and S [B, C, C] of each layer for `style_losses_backward`."""
    if not len(xs) == len(targets) == len(weights) > 0:
        raise ValueError(
            "one target and one weight a layer: "
            f"got {len(xs)} layers, {len(targets)} targets, {len(weights)} weights"
        )
    for x, target in zip(xs, targets, strict=True):
        require_activation(x)
        require_target(x, target)
    found = {(x.dtype, x.device) for x in xs}
    if len(found) > 1:
        raise TypeError(f"layers of one group share a dtype and a device, got {found}")
    losses, *gradients = group_operator(list(xs), list(targets), [float(w) for w in weights])
    return losses, gradients


@operator("style_losses")
def group_operator(xs: list[Tensor], targets: list[Tensor], weights: list[float]) -> list[Tensor]:
    """Compute `style_losses_forward`: the losses, then every S."""
    losses, *gradients = group_fake(xs, targets, weights)
    if not uses_triton(*xs, *targets):
        results = [style_loss_twin(*layer) for layer in zip(xs, targets, weights, strict=True)]
        return [torch.stack([loss for loss, _ in results]), *(s for _, s in results)]
    from stylekernels.device.launch import run_all
    from stylekernels.device.tap import forward_launches

    pairs = losses.new_empty((len(xs), 2))
    run_all(forward_launches(xs, gradients, targets=targets, weights=weights, losses=pairs))
    return [losses.copy_(pairs[:, 0]), *gradients]


@group_operator.register_fake
def group_fake(xs: list[Tensor], targets: list[Tensor], weights: list[float]) -> list[Tensor]:
    """Allocate the results of `style_losses_forward`."""
    del targets, weights
    kind = accumulator(xs[0].dtype)
    return [
        xs[0].new_empty((len(xs),), dtype=kind),
        *(x.new_empty((x.shape[0], x.shape[1], x.shape[1]), dtype=kind) for x in xs),
    ]


@operator("style_losses_backward")
def style_losses_backward(grad: Tensor, xs: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
    """Return dL/dx = grad[l] * X S of every layer.

    Args:
        grad: dL/dlosses, [layers].
        xs: the activations.
        gradients: S of each, from `style_losses_forward`.

    Returns:
        One gradient a layer, in the dtype of its activation, all in the first one's memory format.
    """
    outputs = _empty_gradients(xs)
    grad = grad[:, None].expand(-1, 2).contiguous()
    if not uses_triton(grad, *xs, *gradients):
        for x, s, output, g in zip(xs, gradients, outputs, grad, strict=True):
            gradient_twin(x, s, output, relu=False, loss_gradient=g)
        return outputs
    from stylekernels.device.launch import run_all
    from stylekernels.device.tap import backward_launches

    factors = list(grad.unbind())
    run_all(backward_launches(xs, gradients, outputs, relu=False, loss_gradients=factors))
    return outputs


def _empty_gradients(xs: list[Tensor]) -> list[Tensor]:
    kind = output_format(xs[0])
    return [torch.empty_like(x, memory_format=kind) for x in xs]


style_losses_backward.register_fake(lambda _, xs, __: _empty_gradients(xs))


refuse_second_derivative(style_losses_backward)


def _save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    ctx.layers = len(inputs[0])
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*inputs[0], *output[1:])


def _backward(ctx: Any, grads: list[Tensor]) -> tuple[Any, Any, None]:
    saved = ctx.saved_tensors
    xs, gradients = list(saved[: ctx.layers]), list(saved[ctx.layers :])
    return style_losses_backward(grads[0], xs, gradients), [None] * ctx.layers, None


group_operator.register_autograd(_backward, setup_context=_save)
