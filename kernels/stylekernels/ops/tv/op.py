"""The operator of total variation, a smoothness term beside the paper's losses."""

from typing import Any, Literal

import torch
from torch import Tensor

from stylekernels.ops.tv import cpu
from stylekernels.runtime.dispatch import uses_triton
from stylekernels.runtime.layout import empty_like, output_format, require_activation
from stylekernels.runtime.operators import (
    fake_like,
    fake_nothing,
    fake_scalar,
    operator,
    refuse_second_derivative,
)

Kind = Literal["l1", "l2"]


def tv_loss(x: Tensor, weight: float, kind: Kind = "l1") -> Tensor:
    """Return weight * the sum of |dx| + |dy| (l1) or of dx^2 + dy^2 (l2), over forward differences.

    Anisotropic. Deterministic; differentiable once; the slope of |d| at 0 is 0.

    Args:
        x: the image, [B, C, H, W], fp16, bf16 or fp32 (fp64 through plain torch).
        weight: a number.
        kind: l1 as in neural-style-pt and gordicaleksa, l2 as in neural-style.

    Returns:
        A scalar, fp32 (fp64 for fp64).

    Raises:
        ValueError: `x` is not [B, C, H, W], or `kind` is unknown.
        TypeError: `x` is not floating.
    """
    require_activation(x)
    return tv_loss_operator(x, weight, _squared(kind))


def tv_loss_backward_(grad: Tensor, x: Tensor, weight: float, kind: Kind = "l1") -> None:
    """Add the gradient of `tv_loss` to `grad`, dL/dx so far and shaped as `x`."""
    require_activation(x)
    if grad.shape != x.shape:
        raise ValueError(f"grad must be {tuple(x.shape)}, got {tuple(grad.shape)}")
    tv_loss_in_place_operator(grad, x, weight, _squared(kind))


def _squared(kind: str) -> bool:
    if kind not in {"l1", "l2"}:
        raise ValueError(f"kind must be 'l1' or 'l2', got {kind!r}")
    return kind == "l2"


@operator("tv_loss")
def tv_loss_operator(x: Tensor, weight: float, squared: bool) -> Tensor:
    """Compute `tv_loss`, on whichever implementation fits the operand."""
    if not uses_triton(x):
        return cpu.tv_loss(x, weight, squared)
    from stylekernels.ops.tv.triton_tv import forward_launches
    from stylekernels.runtime.launch import run_all

    loss = x.new_empty((), dtype=torch.float32)
    run_all(forward_launches(x, loss, weight, squared=squared))
    return loss


tv_loss_operator.register_fake(fake_scalar)


def _write(
    x: Tensor,
    weight: float,
    squared: bool,
    output: Tensor,
    incoming: Tensor | None,
    loss_gradient: Tensor | None,
) -> None:
    if not uses_triton(x, output, incoming, loss_gradient):
        gradient = cpu.tv_gradient(x, weight, squared)
        if loss_gradient is not None:
            gradient.mul_(loss_gradient)
        if incoming is not None:
            gradient.add_(incoming)
        output.copy_(gradient)
        return
    from stylekernels.ops.tv.triton_tv import backward_launches
    from stylekernels.runtime.launch import run_all

    run_all(
        backward_launches(
            x.contiguous(memory_format=output_format(output)),
            output,
            weight,
            squared=squared,
            incoming=incoming,
            loss_gradient=loss_gradient,
        )
    )


@operator("tv_loss_backward")
def tv_loss_backward(grad: Tensor, x: Tensor, weight: float, squared: bool) -> Tensor:
    """Return grad * d tv_loss/dx, dense in the memory format of `x`."""
    output = empty_like(x)
    _write(x, weight, squared, output, None, grad.contiguous())
    return output


tv_loss_backward.register_fake(fake_like(1))


refuse_second_derivative(tv_loss_backward)


@operator("tv_loss_backward_", mutates=("grad",))
def tv_loss_in_place_operator(grad: Tensor, x: Tensor, weight: float, squared: bool) -> None:
    """Compute `tv_loss_backward_`."""
    if grad.is_contiguous(memory_format=output_format(grad)):
        _write(x, weight, squared, grad, grad, None)
        return
    output = empty_like(grad)
    _write(x, weight, squared, output, output.copy_(grad), None)
    grad.copy_(output)


tv_loss_in_place_operator.register_fake(fake_nothing)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    x, ctx.weight, ctx.squared = inputs
    ctx.save_for_backward(x)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (x,) = ctx.saved_tensors
    return tv_loss_backward(grad, x, ctx.weight, ctx.squared), None, None


tv_loss_operator.register_autograd(_backward, setup_context=_save)
