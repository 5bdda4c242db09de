"""The style tap: a ReLU that leaves the style loss (and a content loss) of its output behind."""

from typing import Any

import torch
from torch import Tensor

from stylekernels.dispatch import uses_triton
from stylekernels.gradient import write_gradient
from stylekernels.layout import (
    CHUNK,
    accumulator,
    chunks,
    empty_like,
    is_matrix,
    lies_alike,
    require_activation,
    require_same,
    require_target,
    rows,
)
from stylekernels.operators import fake_like, fake_nothing, operator, refuse_second_derivative
from stylekernels.style import finish_twin


def style_tap(
    z: Tensor,
    target: Tensor,
    weight: float,
    content: Tensor | None = None,
    content_weight: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Return y = relu(z) and weight * ||G(y) - target||^2 + content_weight * ||y - content||^2.

    One read of `z`; the backward joins the gradient from above, both losses and the ReLU's mask
    in one kernel. Deterministic; differentiable once, with respect to `z` alone.

    Args:
        z: what the convolution gave, [B, C, H, W], fp16, bf16 or fp32 (fp64 through plain torch).
        target: A, [C, C] or [B, C, C].
        weight: k.
        content: P, shaped as `z`, any floating dtype; in the layout of `z` it is read in place.
        content_weight: c.

    Returns:
        y, dense in the dtype and memory format of `z`; the loss, a scalar, fp32 (fp64 for fp64).

    Raises:
        ValueError: a shape or device does not fit.
        TypeError: a tensor is not floating.
    """
    y, losses, _ = style_tap_forward(z, target, weight, content, content_weight)
    return y, losses[0] if content is None else losses.sum()


def style_tap_forward(
    z: Tensor,
    target: Tensor,
    weight: float,
    content: Tensor | None = None,
    content_weight: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y, the losses [2] (style, content) and the S [B, C, C] of `style_tap`.

    For engines without autograd: hand y and S to `style_tap_backward`.
    """
    _require(z, target, content)
    return style_tap_operator(z, target, weight, content, content_weight)


def style_tap_forward_(
    z: Tensor,
    target: Tensor,
    weight: float,
    content: Tensor | None = None,
    content_weight: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Do `style_tap_forward` with y over z; return the losses [2] and S."""
    _require(z, target, content)
    return style_tap_in_place_operator(z, target, weight, content, content_weight)


def _require(z: Tensor, target: Tensor, content: Tensor | None) -> None:
    require_activation(z, "z")
    require_target(z, target)
    if content is not None:
        require_same(z, content, "content")


def style_tap_twin(
    z: Tensor,
    y: Tensor,
    target: Tensor,
    weight: float,
    content: Tensor | None,
    content_weight: float,
) -> tuple[Tensor, Tensor]:
    """Compute a tap in plain torch, writing relu(z) to y (which may be z), chunk by chunk."""
    kind = accumulator(z.dtype)
    z_rows, y_rows = rows(z), rows(y)
    p_rows = None if content is None else rows(content)
    batch, positions, channels = z_rows.shape
    total = z.new_zeros((batch, channels, channels), dtype=kind)
    difference = z.new_zeros((), dtype=kind)
    for b in range(batch):
        for run in chunks(z_rows[b], None if z.dtype == kind else CHUNK):
            here = torch.clamp_min(z_rows[b, run], 0, out=y_rows[b, run]).to(kind)
            total[b].addmm_(here.mT, here)
            if p_rows is not None:
                difference += (here - p_rows[b, run]).square_().sum()
    style, s = finish_twin(total.div_(positions), target, weight, positions)
    return torch.stack((style, difference * content_weight)), s


def _forward(
    z: Tensor,
    y: Tensor,
    target: Tensor,
    weight: float,
    content: Tensor | None,
    content_weight: float,
) -> tuple[Tensor, Tensor]:
    if not uses_triton(z, target, content):
        return style_tap_twin(z, y, target, weight, content, content_weight)
    from stylekernels.device.launch import run_all
    from stylekernels.device.tap import forward_launches

    batch, channels = z.shape[:2]
    losses = z.new_empty((1, 2), dtype=torch.float32)
    s = z.new_empty((batch, channels, channels), dtype=torch.float32)
    run_all(
        forward_launches(
            [z],
            [s],
            targets=[target],
            weights=[weight],
            losses=losses,
            ys=[y],
            contents=None if content is None else [content],
            content_weights=[content_weight],
        )
    )
    return losses[0], s


@operator("style_tap")
def style_tap_operator(
    z: Tensor, target: Tensor, weight: float, content: Tensor | None, content_weight: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `style_tap_forward`, on whichever implementation fits the operands."""
    y = empty_like(z)
    losses, s = _forward(z, y, target, weight, content, content_weight)
    return y, losses, s


style_tap_operator.register_fake(lambda z, *_: (empty_like(z), *_empty_results(z)))


@operator("style_tap_", mutates=("z",))
def style_tap_in_place_operator(
    z: Tensor, target: Tensor, weight: float, content: Tensor | None, content_weight: float
) -> tuple[Tensor, Tensor]:
    """Compute `style_tap_forward_`."""
    if is_matrix(z):
        return _forward(z, z, target, weight, content, content_weight)
    y = empty_like(z)
    results = _forward(z, y, target, weight, content, content_weight)
    z.copy_(y)
    return results


style_tap_in_place_operator.register_fake(lambda z, *_: _empty_results(z))


def _empty_results(z: Tensor) -> tuple[Tensor, Tensor]:
    batch, channels = z.shape[:2]
    kind = accumulator(z.dtype)
    return z.new_empty((2,), dtype=kind), z.new_empty((batch, channels, channels), dtype=kind)


@operator("style_tap_backward")
def style_tap_backward(
    grad: Tensor,
    y: Tensor,
    s: Tensor,
    loss_gradient: Tensor | None = None,
    content: Tensor | None = None,
    content_weight: float = 0.0,
) -> Tensor:
    """Return dL/dz = (grad + l_0 y S + l_1 2c (y - P)) where y > 0, else 0.

    Args:
        grad: the gradient from above, dL/dy, shaped as `y`.
        y: relu(z), from `style_tap_forward`.
        s: S, from the same.
        loss_gradient: [2], l_0 and l_1; ones if absent.
        content: P, as it was given forward.
        content_weight: c, likewise.

    Returns:
        [B, C, H, W], the dtype of `y`, dense in the memory format of `y`.
    """
    output = empty_like(y)
    write_gradient(
        y,
        s,
        output,
        relu=True,
        incoming=grad,
        loss_gradient=loss_gradient,
        content=content,
        content_weight=content_weight,
    )
    return output


style_tap_backward.register_fake(fake_like(1))


refuse_second_derivative(style_tap_backward)


@operator("style_tap_backward_", mutates=("grad",))
def style_tap_backward_(
    grad: Tensor,
    y: Tensor,
    s: Tensor,
    content: Tensor | None = None,
    content_weight: float = 0.0,
) -> None:
    """Do `style_tap_backward` with the result over `grad`, for losses that count once."""
    direct = is_matrix(grad) and lies_alike(grad, y) and grad.dtype == y.dtype
    output = grad if direct else empty_like(y)
    write_gradient(
        y, s, output, relu=True, incoming=grad, content=content, content_weight=content_weight
    )
    if not direct:
        grad.copy_(output)


style_tap_backward_.register_fake(fake_nothing)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, _, _, content, ctx.content_weight = inputs
    y, _, s = output
    ctx.mark_non_differentiable(s)
    ctx.save_for_backward(y, s, content)


def _backward(ctx: Any, grad: Tensor, loss_gradient: Tensor, _: Tensor) -> tuple[Any, ...]:
    if ctx.needs_input_grad[1] or ctx.needs_input_grad[3]:
        raise NotImplementedError("stylekernels::style_tap has no gradient for its targets")
    y, s, content = ctx.saved_tensors
    gradient = style_tap_backward(grad, y, s, loss_gradient, content, ctx.content_weight)
    return gradient, None, None, None, None


style_tap_operator.register_autograd(_backward, setup_context=_save)
