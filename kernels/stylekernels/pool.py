"""ReLU and 2 x 2 pooling in one step, average (the paper's choice) or maximum (VGG's)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stylekernels.dispatch import uses_triton
from stylekernels.layout import CHUNK, empty_like, output_format, require_activation, require_device
from stylekernels.operators import fake_like, fake_nothing, refuse_second_derivative


def relu_avg_pool2d(x: Tensor) -> Tensor:
    """Return avg_pool2d(relu(x), 2), a last odd row or column left out.

    Differentiable once. relu(x) may stand in for `x`, forward and backward.

    Args:
        x: [B, C, H, W] with H, W >= 2; fp16, bf16 or fp32 (fp64 through plain torch). Dense
            channels-last and NCHW are read in place, other layouts are copied first.

    Returns:
        [B, C, H // 2, W // 2], dense in the dtype and memory format of `x`.

    Raises:
        ValueError: `x` is not [B, C, H, W], or too small to pool.
        TypeError: `x` is not floating.
    """
    return pool_operator(_require(x), maximum=False)


def relu_max_pool2d(x: Tensor) -> Tensor:
    """Return max_pool2d(relu(x), 2); otherwise as `relu_avg_pool2d`."""
    return pool_operator(_require(x), maximum=True)


def relu_avg_pool2d_(x: Tensor) -> Tensor:
    """Do `relu_avg_pool2d` for an `x` that nobody needs as it is: it may be left as relu(x).

    Saves the twin the memory of the ReLU, and two thirds of the time. The backward takes either.
    """
    return pool_in_place_operator(_require(x), maximum=False)


def relu_max_pool2d_(x: Tensor) -> Tensor:
    """Do `relu_max_pool2d` for an `x` that may be left as relu(x)."""
    return pool_in_place_operator(_require(x), maximum=True)


def relu_avg_pool2d_backward(grad: Tensor, x: Tensor) -> Tensor:
    """Return dL/dx of `relu_avg_pool2d`, dense in the memory format of `x`.

    Args:
        grad: dL/dy, [B, C, H // 2, W // 2].
        x: what was pooled, or its ReLU.
    """
    return pool_backward_operator(_require_gradient(grad, x), x, maximum=False)


def relu_max_pool2d_backward(grad: Tensor, x: Tensor) -> Tensor:
    """Return dL/dx of `relu_max_pool2d`; of equal maxima the first has the gradient."""
    return pool_backward_operator(_require_gradient(grad, x), x, maximum=True)


def relu_avg_pool2d_backward_(grad: Tensor, x: Tensor) -> None:
    """Do `relu_avg_pool2d_backward` with the result over `x`, which is not needed after it."""
    pool_backward_in_place_operator(_require_gradient(grad, x), x, maximum=False)


def relu_max_pool2d_backward_(grad: Tensor, x: Tensor) -> None:
    """Do `relu_max_pool2d_backward` with the result over `x`."""
    pool_backward_in_place_operator(_require_gradient(grad, x), x, maximum=True)


def _require(x: Tensor) -> Tensor:
    require_activation(x)
    if min(x.shape[2:]) < 2:
        raise ValueError(f"x must be at least 2 x 2 to pool, got {tuple(x.shape)}")
    return x


def _pooled(x: Tensor) -> tuple[int, int, int, int]:
    return x.shape[0], x.shape[1], x.shape[2] // 2, x.shape[3] // 2


def _require_gradient(grad: Tensor, x: Tensor) -> Tensor:
    _require(x)
    if grad.shape != _pooled(x):
        raise ValueError(f"grad must be {_pooled(x)} for {tuple(x.shape)}, got {tuple(grad.shape)}")
    require_device(x, grad, "grad")
    return grad


def pool_twin(x: Tensor, maximum: bool) -> Tensor:
    """Compute the pooling in plain torch."""
    kind = output_format(x)
    if maximum:  # which commutes with the ReLU, and leaves it a quarter of the work
        return F.max_pool2d(x, 2).relu_().contiguous(memory_format=kind)
    if x.shape[0] > 1 or kind == torch.contiguous_format:
        return F.avg_pool2d(F.relu(x), 2).contiguous(memory_format=kind)
    y = torch.empty(_pooled(x), dtype=x.dtype, device=x.device, memory_format=kind)
    _, channels, height, width = x.shape
    # bands of rows: memory for all of the ReLU would cost more to obtain than to fill
    band = max(2, 2 * CHUNK // (channels * width) // 2 * 2)
    for top in range(0, height - 1, band):
        rows = F.relu(x[:, :, top : min(top + band, height // 2 * 2)])
        into = y[:, :, top // 2 : (top + rows.shape[2]) // 2]
        torch.ops.aten.avg_pool2d.out(rows, [2, 2], [2, 2], out=into)
    return y


def pool_backward_twin(grad: Tensor, x: Tensor, output: Tensor, maximum: bool) -> None:
    """Compute the gradient in plain torch, into `output`, which may be `x`."""
    if maximum:
        indices = F.max_pool2d(x, 2, return_indices=True)[1]
        spread = torch.ops.aten.max_pool2d_with_indices_backward(
            grad, x, [2, 2], [2, 2], [0, 0], [1, 1], False, indices
        )
        torch.ops.aten.threshold_backward.grad_input(spread, x, 0, grad_input=output)
        return
    height, width = grad.shape[2:]
    quarter = (grad * 0.25)[:, :, :, None, :, None]
    # [B, C, H // 2, 2, W // 2, 2]: every window reads its one number, in one pass
    windows = x[:, :, : 2 * height, : 2 * width].unflatten(2, (height, 2)).unflatten(4, (width, 2))
    into = output[:, :, : 2 * height, : 2 * width]
    into = into.unflatten(2, (height, 2)).unflatten(4, (width, 2))
    quarter = quarter.expand(windows.shape)
    torch.ops.aten.threshold_backward.grad_input(quarter, windows, 0, grad_input=into)
    output[:, :, 2 * height :].zero_()
    output[:, :, :, 2 * width :].zero_()


@torch.library.custom_op("stylekernels::relu_pool2d", mutates_args=())
def pool_operator(x: Tensor, maximum: bool) -> Tensor:
    """Compute the pooling, on whichever implementation fits the operand."""
    if not uses_triton(x):
        return pool_twin(x, maximum)
    from stylekernels.device.launch import run_all
    from stylekernels.device.pool import forward_launches

    y = pool_fake(x, maximum)
    run_all(forward_launches(x.contiguous(memory_format=output_format(x)), y, maximum=maximum))
    return y


@pool_operator.register_fake
def pool_fake(x: Tensor, maximum: bool) -> Tensor:
    """Allocate the result of the pooling."""
    del maximum
    kind = output_format(x)
    return torch.empty(_pooled(x), dtype=x.dtype, device=x.device, memory_format=kind)


@torch.library.custom_op("stylekernels::relu_pool2d_", mutates_args=("x",))
def pool_in_place_operator(x: Tensor, maximum: bool) -> Tensor:
    """Compute the pooling; `x` may become relu(x)."""
    if maximum or uses_triton(x):
        return pool_operator(x, maximum)
    return F.avg_pool2d(x.relu_(), 2).contiguous(memory_format=output_format(x))


pool_in_place_operator.register_fake(pool_fake)


def _write(grad: Tensor, x: Tensor, output: Tensor, maximum: bool) -> None:
    if not uses_triton(grad, x, output):
        pool_backward_twin(grad, x, output, maximum)
        return
    from stylekernels.device.launch import run_all
    from stylekernels.device.pool import backward_launches

    kind = output_format(output)
    x = x.contiguous(memory_format=kind)
    grad = grad.contiguous(memory_format=kind)
    run_all(backward_launches(grad, x, output, maximum=maximum))


@torch.library.custom_op("stylekernels::relu_pool2d_backward", mutates_args=())
def pool_backward_operator(grad: Tensor, x: Tensor, maximum: bool) -> Tensor:
    """Compute the gradient of the pooling."""
    output = empty_like(x)
    _write(grad, x, output, maximum)
    return output


pool_backward_operator.register_fake(fake_like(1))


refuse_second_derivative(pool_backward_operator)


@torch.library.custom_op("stylekernels::relu_pool2d_backward_", mutates_args=("x",))
def pool_backward_in_place_operator(grad: Tensor, x: Tensor, maximum: bool) -> None:
    """Compute the gradient of the pooling over what was pooled."""
    if x.is_contiguous(memory_format=output_format(x)):
        _write(grad, x, x, maximum)
        return
    output = empty_like(x)
    _write(grad, x, output, maximum)
    x.copy_(output)


pool_backward_in_place_operator.register_fake(fake_nothing)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    x, ctx.maximum = inputs
    ctx.save_for_backward(x)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    (x,) = ctx.saved_tensors
    return pool_backward_operator(grad, x, ctx.maximum), None


pool_operator.register_autograd(_backward, setup_context=_save)
