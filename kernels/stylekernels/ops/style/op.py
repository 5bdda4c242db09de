"""The style operators: Gram matrix, style loss k ||G - A||^2, and a tap's gradient.

A tap is a layer behind a ReLU whose style loss, and maybe content loss, count in the objective.
"""

from math import prod
from typing import Any, Unpack

from torch import Tensor

from stylekernels.ops.style import cpu
from stylekernels.ops.style.terms import Style, Terms
from stylekernels.runtime.dispatch import uses_triton
from stylekernels.runtime.layout import (
    accumulator,
    empty_like,
    is_matrix,
    require_activation,
    require_factors,
    require_target,
    same_strides,
)
from stylekernels.runtime.operators import (
    fake_like,
    fake_nothing,
    operator,
    refuse_second_derivative,
)


def gram(x: Tensor) -> Tensor:
    """Return the Gram matrix of each activation in a batch, divided by its positions.

    Deterministic: partial sums are kept in fp32 and added in a fixed order. Differentiable once.

    Args:
        x: [B, C, H, W], fp16, bf16 or fp32 (fp64 through plain torch); channels-last and NCHW are
            read in place, other layouts are copied first.

    Returns:
        [B, C, C], contiguous, fp32 (fp64 for fp64).

    Raises:
        ValueError: `x` is not [B, C, H, W], or is empty.
        TypeError: `x` is not floating.

    Source: Gatys, Ecker, Bethge, CVPR 2016, eq. 3, normalized by positions.
    """
    require_activation(x)
    return gram_operator(x)


@operator("gram")
def gram_operator(x: Tensor) -> Tensor:
    """Compute `gram`, on whichever implementation fits the operand."""
    if not uses_triton(x):
        return cpu.gram(x)
    from stylekernels.ops.style.triton_launches import forward_launches
    from stylekernels.runtime.launch import run_all

    output = gram_fake(x)
    run_all(forward_launches(x, output))
    return output


@gram_operator.register_fake
def gram_fake(x: Tensor) -> Tensor:
    """Allocate the result of `gram`."""
    batch, channels = x.shape[:2]
    return x.new_empty((batch, channels, channels), dtype=accumulator(x.dtype))


@operator("gram_backward")
def gram_backward(grad: Tensor, x: Tensor) -> Tensor:
    """Return dL/dx = (dL/dG + (dL/dG)^T) x / M.

    Args:
        grad: dL/dG, [B, C, C].
        x: the activation, [B, C, H, W].

    Returns:
        [B, C, H, W], the dtype of `x`, dense in the memory format of `x`.
    """
    s = (grad + grad.mT).div_(prod(x.shape[2:]))
    output = empty_like(x)
    write_gradient(x, s, output, relu=False)
    return output


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


def style_loss_forward(
    x: Tensor, target: Tensor, weight: float, channel_scale: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss of `style_loss`, and the s and its scale that `style_tap_backward` takes.

    With S = (4 k / M) (G - A), so that dL/dx = X S, scale * s is S to the rounding of s. A
    power-of-two gradient scale may ride on `weight`.

    Args:
        x: [B, C, H, W].
        target: as in `style_loss`.
        weight: k.
        channel_scale: v [C], fp32. The loss is then that of v x, and s has v as a factor of its
            columns.

    Returns:
        The loss; s [B, C, C] in the dtype of `x`; its scale [B], powers of two in fp32, 1 unless s
        is fp16, whose range S may leave.
    """
    require_activation(x)
    require_target(x, target)
    require_factors(x, channel_scale)
    loss, s, scale = style_loss_operator(x, target, weight, channel_scale)
    return loss, s, scale


@operator("style_loss")
def style_loss_operator(
    x: Tensor, target: Tensor, weight: float, channel_scale: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `style_loss_forward`, on whichever implementation fits the operands."""
    if not uses_triton(x, target, channel_scale):
        return cpu.style_loss_forward(x, target, weight, channel_scale)
    from stylekernels.ops.style.triton_launches import forward_launches
    from stylekernels.runtime.launch import run_all

    loss, s, scale = style_loss_fake(x, target, weight)
    style = Style(target.contiguous(), weight, loss, scale, channel_scale)
    run_all(forward_launches(x, s, style))
    return loss, s, scale


@style_loss_operator.register_fake
def style_loss_fake(
    x: Tensor, target: Tensor, weight: float, channel_scale: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Allocate the results of `style_loss_forward`."""
    del target, weight, channel_scale
    kind, (batch, channels) = accumulator(x.dtype), x.shape[:2]
    s, scale = x.new_empty((batch, channels, channels)), x.new_empty(batch, dtype=kind)
    return x.new_empty((), dtype=kind), s, scale


@operator("style_loss_backward")
def style_loss_backward(
    grad: Tensor,
    x: Tensor,
    s: Tensor,
    scale: Tensor | None = None,
    channel_scale: Tensor | None = None,
) -> Tensor:
    """Return dL/dx = grad * X S.

    Args:
        grad: dL/dloss, a scalar.
        x: the activation, [B, C, H, W].
        s: from `style_loss_forward`, or S itself.
        scale: of s, if it is not 1.
        channel_scale: as in `style_loss_forward`.

    Returns:
        [B, C, H, W], the dtype of `x`, dense in the memory format of `x`.
    """
    output = empty_like(x)
    write_gradient(
        x, s, output, relu=False, scale=scale, loss_gradient=grad, channel_scale=channel_scale
    )
    return output


@operator("style_tap_backward")
def style_tap_backward(
    grad: Tensor | None,
    y: Tensor,
    s: Tensor,
    scale: Tensor | None = None,
    content: Tensor | None = None,
    content_weight: float = 0.0,
    channel_scale: Tensor | None = None,
) -> Tensor:
    """Return dL/dz = grad + y S + 2c (y - P) where y = relu(z) is above 0, else 0, in one kernel.

    Args:
        grad: the gradient from above, dL/dy, shaped as `y`, or None for zero: nothing is read then.
        y: the activation, [B, C, H, W].
        s: from `style_loss_forward` of `y`, or S itself.
        scale: of s, if it is not 1.
        content: P, shaped as `y`; without it there is no content loss.
        content_weight: c.
        channel_scale: v [C], if the losses are those of v y.

    Returns:
        [B, C, H, W], the dtype of `y`, dense in the memory format of `y`.
    """
    output = empty_like(y)
    write_gradient(
        y,
        s,
        output,
        relu=True,
        scale=scale,
        incoming=grad,
        content=content,
        content_weight=content_weight,
        channel_scale=channel_scale,
    )
    return output


@operator("style_tap_backward_", mutates=("grad",))
def style_tap_backward_(
    grad: Tensor,
    y: Tensor,
    s: Tensor,
    scale: Tensor | None = None,
    content: Tensor | None = None,
    content_weight: float = 0.0,
    channel_scale: Tensor | None = None,
) -> None:
    """Compute `style_tap_backward` with the result in place of `grad`."""
    direct = is_matrix(grad) and same_strides(grad, y) and grad.dtype == y.dtype
    output = grad if direct else empty_like(y)
    write_gradient(
        y,
        s,
        output,
        relu=True,
        scale=scale,
        incoming=grad,
        content=content,
        content_weight=content_weight,
        channel_scale=channel_scale,
    )
    if not direct:
        grad.copy_(output)


def write_gradient(
    x: Tensor,
    s: Tensor,
    output: Tensor,
    **terms: Unpack[Terms],
) -> None:
    """Write incoming + v (l X (scale s)^T + 2c (v X - P)) to `output`, 0 where x <= 0 with `relu`.

    Args:
        x: the activation, [B, C, H, W]; with `relu` the output of the ReLU.
        s: [B, C, C].
        output: dense, shaped as `x`; may be `incoming`, may not be `x`.
        terms: see `Terms`.
    """
    s = s.contiguous()
    write = cpu.write_gradient
    if uses_triton(x, s, output, *(t for t in terms.values() if isinstance(t, Tensor))):
        from stylekernels.ops.style.triton_backward import run_backward

        write = run_backward
    write(x, s, output, **terms)


def _save_gram(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    ctx.save_for_backward(inputs[0])


def _gram_backward(ctx: Any, grad: Tensor) -> Tensor:
    (x,) = ctx.saved_tensors
    return gram_backward(grad, x)


def _save_loss(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(inputs[0], inputs[3], *output[1:])


def _loss_backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    if ctx.needs_input_grad[1]:
        raise NotImplementedError("stylekernels::style_loss has no gradient for its target")
    x, channel_scale, s, scale = ctx.saved_tensors
    return style_loss_backward(grad, x, s, scale, channel_scale), None, None, None


gram_operator.register_autograd(_gram_backward, setup_context=_save_gram)
style_loss_operator.register_autograd(_loss_backward, setup_context=_save_loss)
style_tap_backward_.register_fake(fake_nothing)
for _backward in (gram_backward, style_loss_backward, style_tap_backward):
    _backward.register_fake(fake_like(1))
    refuse_second_derivative(_backward)
