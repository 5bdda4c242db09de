"""The style loss: k * ||G - A||_F^2 over the Gram matrix G of an activation and its target A."""

from math import prod
from typing import Any

import torch
from torch import Tensor

from stylekernels.dispatch import uses_triton
from stylekernels.gradient import write_gradient
from stylekernels.gram import gram_twin
from stylekernels.layout import accumulator, empty_like, require_activation, require_target
from stylekernels.operators import fake_like, operator, refuse_second_derivative


def style_loss(x: Tensor, target: Tensor, weight: float) -> Tensor:
    """Return weight * sum over the batch of ||G(x) - target||_F^2, in two launches.

    Several targets with blend weights w_i that sum to 1 are one target, sum of w_i A_i, by
    linearity of the gradient. Deterministic; differentiable once, with respect to `x` alone.

    Args:
        x: [B, C, H, W], fp16, bf16 or fp32 (fp64 through plain torch).
        target: [C, C], or [B, C, C] for one a picture; fp32 keeps what low precision would lose.
        weight: k.

    Returns:
        A scalar, fp32 (fp64 for fp64).

    Raises:
        ValueError: a shape or device does not fit.
        TypeError: a tensor is not floating.

    Source: Gatys, Ecker, Bethge, CVPR 2016, eq. 4 and 5.
    """
    return style_loss_forward(x, target, weight)[0]


def style_loss_forward(x: Tensor, target: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """Return the loss of `style_loss` and the S [B, C, C] fp32 that its backward multiplies.

    S = (4 k / M) (G - A), so that dL/dx = X S. A power-of-two gradient scale may ride on `weight`.
    """
    require_activation(x)
    require_target(x, target)
    loss, s = style_loss_operator(x, target, weight)
    return loss, s


def style_loss_twin(x: Tensor, target: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """Compute `style_loss_forward` in plain torch."""
    return finish_twin(gram_twin(x), target, weight, prod(x.shape[2:]))


def finish_twin(gram: Tensor, target: Tensor, weight: float, m: int) -> tuple[Tensor, Tensor]:
    """Turn Grams [B, C, C] into the loss and S, in place of the Grams."""
    d = gram.sub_(target)
    # not torch.dot: without AVX-512 it adds so few sums of so many that the loss is off by 1e-5
    return d.square().sum() * weight, (d + d.mT).mul_(2.0 * weight / m)


@operator("style_loss")
def style_loss_operator(x: Tensor, target: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """Compute `style_loss_forward`, on whichever implementation fits the operands."""
    if not uses_triton(x, target):
        return style_loss_twin(x, target, weight)
    from stylekernels.device.launch import run_all
    from stylekernels.device.tap import forward_launches

    loss, s = x.new_empty((1, 2), dtype=torch.float32), style_loss_fake(x, target, weight)[1]
    run_all(forward_launches([x], [s], targets=[target], weights=[weight], losses=loss))
    return loss[0, 0], s


@style_loss_operator.register_fake
def style_loss_fake(x: Tensor, target: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """Allocate the results of `style_loss_forward`."""
    del target, weight
    batch, channels = x.shape[:2]
    kind = accumulator(x.dtype)
    return x.new_empty((), dtype=kind), x.new_empty((batch, channels, channels), dtype=kind)


@operator("style_loss_backward")
def style_loss_backward(grad: Tensor, x: Tensor, s: Tensor) -> Tensor:
    """Return dL/dx = grad * X S.

    Args:
        grad: dL/dloss, a scalar.
        x: the activation, [B, C, H, W].
        s: from `style_loss_forward`.

    Returns:
        [B, C, H, W], the dtype of `x`, dense in the memory format of `x`.
    """
    output = empty_like(x)
    write_gradient(x, s, output, relu=False, loss_gradient=grad.expand(2))
    return output


style_loss_backward.register_fake(fake_like(1))


refuse_second_derivative(style_loss_backward)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(inputs[0], output[1])


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    if ctx.needs_input_grad[1]:
        raise NotImplementedError("stylekernels::style_loss has no gradient for its target")
    x, s = ctx.saved_tensors
    return style_loss_backward(grad, x, s), None, None


style_loss_operator.register_autograd(_backward, setup_context=_save)
