"""Operands of the style kernels beside the activation, by name."""

from dataclasses import dataclass
from typing import Required, TypedDict

from torch import Tensor


@dataclass(frozen=True)
class Style:
    """A style loss of a Gram, and the memory for its value.

    Attributes:
        target: A, [C, C] or [B, C, C].
        weight: k.
        loss: a scalar, fp32.
        scale: [B], fp32.
        channel_scale: v [C], fp32; 1 if absent.
    """

    target: Tensor
    weight: float
    loss: Tensor
    scale: Tensor
    channel_scale: Tensor | None = None


class Terms(TypedDict, total=False):
    """Parts of a gradient.

    Attributes:
        relu: whether a ReLU made the activation.
        scale: of s, [B]; 1 if absent.
        incoming: the gradient from above, shaped as the activation.
        loss_gradient: l, a scalar that the style gradient is multiplied by; 1 if absent.
        content: P, shaped as the activation.
        content_weight: c.
        channel_scale: v [C]; 1 if absent.
    """

    relu: Required[bool]
    scale: Tensor | None
    incoming: Tensor | None
    loss_gradient: Tensor | None
    content: Tensor | None
    content_weight: float
    channel_scale: Tensor | None
