"""Gram matrices: G = X^T X / M over the M = H * W positions of an activation."""

from math import prod
from typing import Any

import torch
from torch import Tensor

from stylekernels.dispatch import uses_triton
from stylekernels.gradient import FAST_BFLOAT16, write_gradient
from stylekernels.layout import CHUNK, accumulator, chunks, empty_like, require_activation, rows
from stylekernels.operators import fake_like, operator, refuse_second_derivative

_MOST = 1 << 22  # elements of a product in bf16: sums of more of them in fp32 lose more


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

    Source: Gatys, Ecker, Bethge, CVPR 2016, eq. 3, normalised by positions.
    """
    require_activation(x)
    return gram_operator(x)


def products(x: Tensor) -> Tensor:
    """Return X^T X [B, C, C] of matrices [B, M, C], summed in fp32 (fp64 for fp64).

    A product in bf16 would round its result to bf16, and G - A near the optimum is smaller than
    that rounding. Where the processor multiplies bf16, a second product therefore gives what the
    first one's rounding lost, to some 2e-6 of G in all; elsewhere half precision is widened a chunk
    at a time, which is the slower by twice.
    """
    batch, _, channels = x.shape
    kind = accumulator(x.dtype)
    total = x.new_zeros((batch, channels, channels), dtype=kind)
    if x.dtype == kind:
        add, most = _add_widened, None  # nothing to widen
    elif x.dtype == torch.bfloat16 and FAST_BFLOAT16 and not x.is_cuda:
        add, most = _add_two_products, _MOST
    else:
        add, most = _add_widened, CHUNK
    for b in range(batch):
        for run in chunks(x[b], most):
            add(total[b], x[b, run])
    return total


def _add_two_products(total: Tensor, x: Tensor) -> None:
    high = x.mT @ x
    total += high
    total += torch.addmm(high, x.mT, x, beta=-1)  # summed in fp32 before it is rounded


def _add_widened(total: Tensor, x: Tensor) -> None:
    wide = x.to(total.dtype)
    total.addmm_(wide.mT, wide)


def gram_twin(x: Tensor) -> Tensor:
    """Compute `gram` in plain torch."""
    return products(rows(x)).div_(prod(x.shape[2:]))


@operator("gram")
def gram_operator(x: Tensor) -> Tensor:
    """Compute `gram`, on whichever implementation fits the operand."""
    if not uses_triton(x):
        return gram_twin(x)
    from stylekernels.device.launch import run_all
    from stylekernels.device.tap import forward_launches

    output = gram_fake(x)
    run_all(forward_launches([x], [output]))
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


gram_backward.register_fake(fake_like(1))


refuse_second_derivative(gram_backward)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    ctx.save_for_backward(inputs[0])


def _gram_backward(ctx: Any, grad: Tensor) -> Tensor:
    (x,) = ctx.saved_tensors
    return gram_backward(grad, x)


gram_operator.register_autograd(_gram_backward, setup_context=_save)
