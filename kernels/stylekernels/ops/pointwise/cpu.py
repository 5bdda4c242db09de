"""Content loss, its gradient, and the mask of a ReLU in plain torch, band by band."""

import torch
from torch import Tensor

from stylekernels.runtime.layout import CHUNK, INTEGERS, accumulator, bands


def content_loss(
    x: Tensor, target: Tensor, weight: float, channel_scale: Tensor | None = None
) -> Tensor:
    """Return the content loss."""
    kind = accumulator(x.dtype)
    v = _factors(channel_scale, kind)
    total = x.new_zeros((), dtype=kind)
    for band in bands(x):
        total += _difference(x[..., band, :], target[..., band, :], v).square_().sum(dtype=kind)
    return total * weight


def _factors(channel_scale: Tensor | None, kind: torch.dtype) -> Tensor | None:
    return None if channel_scale is None else channel_scale.to(kind).view(1, -1, 1, 1)


def _difference(x: Tensor, target: Tensor, v: Tensor | None) -> Tensor:
    """V x - target, new memory in the sums' dtype."""
    x = x.to(accumulator(x.dtype))
    return torch.sub(x if v is None else v * x, target)


def write_content_gradient(
    x: Tensor,
    target: Tensor,
    weight: float,
    output: Tensor,
    incoming: Tensor | None,
    loss_gradient: Tensor | None,
    channel_scale: Tensor | None = None,
) -> None:
    """Write incoming + loss_gradient * 2 weight v (v x - target) to `output`."""
    v = _factors(channel_scale, accumulator(x.dtype))
    factor = 2.0 * weight if v is None else 2.0 * weight * v
    for band in bands(x):
        d = _difference(x[..., band, :], target[..., band, :], v).mul_(factor)
        if loss_gradient is not None:
            d.mul_(loss_gradient)
        if incoming is not None:
            d.add_(incoming[..., band, :])
        output[..., band, :].copy_(d)


def mask_(gradient: Tensor, x: Tensor) -> Tensor:
    """Zero `gradient` in place where the ReLU that made `x` was off; return it.

    Half precision is masked by its bits: torch would convert every element to fp32 and back, which
    takes two to three times as long. On a GPU it is torch's own operator.

    Args:
        gradient: [B, C, H, W] or [M, C].
        x: likewise; what is not a number counts as off if its sign bit is set.
    """
    if gradient.is_cuda or gradient.element_size() != 2 or gradient.dtype != x.dtype:
        return torch.ops.aten.threshold_backward.grad_input(gradient, x, 0, grad_input=gradient)
    bits, source = gradient.view(INTEGERS[2]), x.view(INTEGERS[2])
    for band in bands(x, 2 * CHUNK):
        bits[..., band, :].mul_(source[..., band, :].clamp(0, 1))
    return gradient
