"""The pointwise operators: content loss c ||F - P||^2, and bias with ReLU behind a convolution."""

from typing import Any

import torch
from torch import Tensor

from stylekernels.ops.pointwise import cpu
from stylekernels.runtime.dispatch import uses_triton
from stylekernels.runtime.layout import (
    empty_like,
    is_matrix,
    output_format,
    require_activation,
    require_device,
    require_factors,
    require_same,
)
from stylekernels.runtime.operators import (
    fake_like,
    fake_nothing,
    fake_scalar,
    operator,
    refuse_second_derivative,
)


def content_loss(
    x: Tensor, target: Tensor, weight: float, channel_scale: Tensor | None = None
) -> Tensor:
    """Return weight * the sum of (v x - target)^2.

    Deterministic; differentiable once, with respect to `x` alone.

    Args:
        x: [B, C, H, W], fp16, bf16 or fp32 (fp64 through plain torch).
        target: shaped as `x`, any floating dtype; in the layout of `x` it is read in place.
        weight: c.
        channel_scale: v [C], fp32; 1 if absent.

    Returns:
        A scalar, fp32 (fp64 for fp64).

    Raises:
        ValueError: a shape or device does not fit.
        TypeError: a tensor is not floating.

    Source: Gatys, Ecker, Bethge, CVPR 2016, eq. 1, with c for its 1/2.
    """
    require_activation(x)
    require_same(x, target, "target")
    require_factors(x, channel_scale)
    return content_loss_operator(x, target, weight, channel_scale)


def _aligned(x: Tensor, like: Tensor) -> Tensor:
    """Return `x` dense and in the order of a result shaped like `like`."""
    return x.contiguous(memory_format=output_format(like))


@operator("content_loss")
def content_loss_operator(
    x: Tensor, target: Tensor, weight: float, channel_scale: Tensor | None = None
) -> Tensor:
    """Compute `content_loss`, on whichever implementation fits the operands."""
    if not uses_triton(x, target, channel_scale):
        return cpu.content_loss(x, target, weight, channel_scale)
    from stylekernels.ops.pointwise.triton_stream import content_forward_launches
    from stylekernels.runtime.launch import run_all

    loss = x.new_empty((), dtype=torch.float32)
    x, target = _aligned(x, x), _aligned(target, x)
    run_all(content_forward_launches(x, target, loss, weight, channel_scale))
    return loss


content_loss_operator.register_fake(fake_scalar)


def _write(
    x: Tensor,
    target: Tensor,
    weight: float,
    output: Tensor,
    incoming: Tensor | None,
    loss_gradient: Tensor | None,
    channel_scale: Tensor | None,
    relu: bool = False,
) -> None:
    parts = incoming, loss_gradient, channel_scale
    if not uses_triton(x, target, output, *parts):
        cpu.write_content_gradient(x, target, weight, output, *parts)
        if relu:
            cpu.mask_(output, x)
        return
    from stylekernels.ops.pointwise.triton_stream import content_backward_launches
    from stylekernels.runtime.launch import run_all

    x, target = _aligned(x, output), _aligned(target, output)
    run_all(content_backward_launches(x, target, output, weight, *parts, relu=relu))


@operator("content_loss_backward")
def content_loss_backward(
    grad: Tensor, x: Tensor, target: Tensor, weight: float, channel_scale: Tensor | None = None
) -> Tensor:
    """Return dL/dx = grad * 2 weight v (v x - target), dense in the memory format of `x`.

    Args:
        grad: dL/dloss, a scalar.
        x: the argument of `content_loss`.
        target: likewise.
        weight: likewise.
        channel_scale: likewise.
    """
    output = empty_like(x)
    _write(x, target, weight, output, None, grad.contiguous(), channel_scale)
    return output


content_loss_backward.register_fake(fake_like(1))


refuse_second_derivative(content_loss_backward)


@operator("content_loss_backward_", mutates=("grad",))
def content_loss_backward_(
    grad: Tensor,
    x: Tensor,
    target: Tensor,
    weight: float,
    channel_scale: Tensor | None = None,
    relu: bool = False,
) -> None:
    """Add 2 weight v (v x - target) to `grad`, dL/dx so far and shaped as `x`.

    With `relu`, which made `x`, the sum is 0 where it was off.
    """
    if grad.is_contiguous(memory_format=output_format(grad)):
        _write(x, target, weight, grad, grad, None, channel_scale, relu)
        return
    output = empty_like(grad)
    _write(x, target, weight, output, _aligned(grad, output), None, channel_scale, relu)
    grad.copy_(output)


content_loss_backward_.register_fake(fake_nothing)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    x, target, ctx.weight, channel_scale = inputs
    ctx.save_for_backward(x, target, channel_scale)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    if ctx.needs_input_grad[1]:
        raise NotImplementedError("stylekernels::content_loss has no gradient for its target")
    x, target, channel_scale = ctx.saved_tensors
    return content_loss_backward(grad, x, target, ctx.weight, channel_scale), None, None, None


content_loss_operator.register_autograd(_backward, setup_context=_save)


def bias_relu_(x: Tensor, bias: Tensor) -> None:
    """Put relu(x + bias) in the place of `x`.

    The sum is in fp32 (fp64 for fp64) and rounded once. Not differentiable.

    Args:
        x: [B, C, H, W], fp16, bf16 or fp32 (fp64 through plain torch).
        bias: [C], any floating dtype; fp32 keeps what low precision would lose.

    Raises:
        ValueError: a shape or device does not fit.
        TypeError: a tensor is not floating.
    """
    require_activation(x)
    require_device(x, bias, "bias")
    if bias.shape != x.shape[1:2]:
        raise ValueError(f"bias must be [{x.shape[1]}], got {list(bias.shape)}")
    bias_relu_operator(x, bias)


@operator("bias_relu_", mutates=("x",))
def bias_relu_operator(x: Tensor, bias: Tensor) -> None:
    """Compute `bias_relu_`, on whichever implementation fits the operands."""
    if not uses_triton(x, bias):
        x.add_(bias.view(1, -1, 1, 1)).relu_()
        return
    from stylekernels.ops.pointwise.triton_stream import bias_relu_launches
    from stylekernels.runtime.launch import run_all

    dense = is_matrix(x) and x.is_contiguous(memory_format=output_format(x))
    y = x if dense else x.clone(memory_format=output_format(x))
    run_all(bias_relu_launches(y, bias.contiguous()))
    if not dense:
        x.copy_(y)


bias_relu_operator.register_fake(fake_nothing)
