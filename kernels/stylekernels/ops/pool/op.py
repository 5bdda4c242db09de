"""ReLU and 2 x 2 pooling in one step, average (the paper's choice) or maximum (VGG's).

The way back needs no activation: one byte a window says which of its four inputs the gradient goes
to. For fp32 that is a sixteenth of what autograd keeps.
"""

from typing import Any

import torch
from torch import Tensor

from stylekernels.ops.pool import cpu
from stylekernels.runtime.dispatch import uses_triton
from stylekernels.runtime.layout import output_format, require_activation, require_device
from stylekernels.runtime.operators import operator, refuse_second_derivative


def relu_avg_pool2d(x: Tensor) -> Tensor:
    """Return avg_pool2d(relu(x), 2), a last odd row or column left out.

    Differentiable once.

    Args:
        x: [B, C, H, W] with H, W >= 2; fp16, bf16 or fp32 (fp64 through plain torch). Dense
            channels-last and NCHW are read in place, other layouts are copied first.

    Returns:
        [B, C, H // 2, W // 2], dense in the dtype and memory format of `x`.

    Raises:
        ValueError: `x` is not [B, C, H, W], or too small to pool.
        TypeError: `x` is not floating.
    """
    return relu_avg_pool2d_forward(x)[0]


def relu_max_pool2d(x: Tensor) -> Tensor:
    """Return max_pool2d(relu(x), 2); otherwise as `relu_avg_pool2d`."""
    return relu_max_pool2d_forward(x)[0]


def relu_avg_pool2d_forward(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return `relu_avg_pool2d`, and the code that its backward takes in place of `x`.

    The code is uint8, shaped and laid out as the result. Bits 0 to 3 stand for the window's top
    left, top right, bottom left and bottom right input: those that the gradient reaches.
    """
    return pool_operator(_require(x), maximum=False)


def relu_max_pool2d_forward(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return `relu_max_pool2d`, and its code: one bit at most, of equal maxima the first."""
    return pool_operator(_require(x), maximum=True)


def relu_avg_pool2d_backward(grad: Tensor, code: Tensor, height: int, width: int) -> Tensor:
    """Return dL/dx of `relu_avg_pool2d`, dense in the dtype of `grad` and the format of `code`.

    Args:
        grad: dL/dy, [B, C, H // 2, W // 2].
        code: as the forward returned it.
        height: H of the forward's input.
        width: W of it.

    Raises:
        ValueError: the shapes do not fit together.
    """
    _require_gradient(grad, code, height, width)
    return pool_backward_operator(grad, code, height, width, maximum=False)


def relu_max_pool2d_backward(grad: Tensor, code: Tensor, height: int, width: int) -> Tensor:
    """Return dL/dx of `relu_max_pool2d`; otherwise as `relu_avg_pool2d_backward`."""
    _require_gradient(grad, code, height, width)
    return pool_backward_operator(grad, code, height, width, maximum=True)


def _require(x: Tensor) -> Tensor:
    require_activation(x)
    if min(x.shape[2:]) < 2:
        raise ValueError(f"x must be at least 2 x 2 to pool, got {tuple(x.shape)}")
    return x


def _require_gradient(grad: Tensor, code: Tensor, height: int, width: int) -> None:
    pooled = (*code.shape[:2], height // 2, width // 2)
    if code.dtype != torch.uint8 or tuple(code.shape) != pooled:
        raise ValueError(
            f"code must be uint8 {pooled} for {height} x {width}, as the forward returned it, "
            f"got {code.dtype} {tuple(code.shape)}"
        )
    if grad.shape != code.shape:
        raise ValueError(f"grad must be {tuple(code.shape)}, got {tuple(grad.shape)}")
    require_device(code, grad, "grad")


@operator("relu_pool2d")
def pool_operator(x: Tensor, maximum: bool) -> tuple[Tensor, Tensor]:
    """Compute the pooling and its code, on whichever implementation fits the operand."""
    y, code = pool_fake(x, maximum)
    if not uses_triton(x):
        cpu.pool(x, y, code, maximum)
        return y, code
    from stylekernels.ops.pool.triton_pool import forward_launches
    from stylekernels.runtime.launch import run_all

    dense = x.contiguous(memory_format=output_format(x))
    run_all(forward_launches(dense, y, code, maximum=maximum))
    return y, code


@pool_operator.register_fake
def pool_fake(x: Tensor, maximum: bool) -> tuple[Tensor, Tensor]:
    """Allocate the result of the pooling, and its code."""
    del maximum
    shape = x.shape[0], x.shape[1], x.shape[2] // 2, x.shape[3] // 2
    kind = output_format(x)
    y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=kind)
    return y, torch.empty_like(y, dtype=torch.uint8)


@operator("relu_pool2d_backward")
def pool_backward_operator(
    grad: Tensor, code: Tensor, height: int, width: int, maximum: bool
) -> Tensor:
    """Compute the gradient of the pooling."""
    output = pool_backward_fake(grad, code, height, width, maximum)
    if not uses_triton(grad, output):
        cpu.pool_backward(grad, code, output, maximum)
        return output
    from stylekernels.ops.pool.triton_pool import backward_launches
    from stylekernels.runtime.launch import run_all

    kind = output_format(output)
    grad, code = grad.contiguous(memory_format=kind), code.contiguous(memory_format=kind)
    run_all(backward_launches(grad, code, output, maximum=maximum))
    return output


@pool_backward_operator.register_fake
def pool_backward_fake(
    grad: Tensor, code: Tensor, height: int, width: int, maximum: bool
) -> Tensor:
    """Allocate the gradient."""
    del maximum
    shape = (*code.shape[:2], height, width)
    kind = output_format(code)
    return torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=kind)


refuse_second_derivative(pool_backward_operator)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, ctx.maximum = inputs
    _, code = output
    ctx.size = x.shape[2:]
    ctx.mark_non_differentiable(code)
    ctx.save_for_backward(code)


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None]:
    (code,) = ctx.saved_tensors
    return pool_backward_operator(grad, code, *ctx.size, ctx.maximum), None


pool_operator.register_autograd(_backward, setup_context=_save)
