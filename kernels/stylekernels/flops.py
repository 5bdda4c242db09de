"""FLOP formulas: import this module, and `torch.utils.flop_counter.FlopCounterMode` counts them.

Products only, as torch counts its own: two operations a multiply-add, symmetry not deducted.
Apart from the package itself because torch's counter imports Triton.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from stylekernels.ops.style.work import product_flops

_OPERATORS = torch.ops.stylekernels


def _product(x: Sequence[int], *_: Any, **__: Any) -> int:
    """Count X^T X of an activation [B, C, H, W]."""
    return product_flops(x[1], prod(x))


def _product_backward(grad: Sequence[int], x: Sequence[int], *_: Any, **__: Any) -> int:
    """Count X S of an activation, the operator's second operand."""
    del grad
    return _product(x)


register_flop_formula([_OPERATORS.gram, _OPERATORS.style_loss])(_product)
register_flop_formula([_OPERATORS.gram_backward, _OPERATORS.style_loss_backward])(_product_backward)
register_flop_formula([_OPERATORS.style_tap_backward, _OPERATORS.style_tap_backward_])(
    _product_backward
)


@register_flop_formula(_OPERATORS.dgrad)
def _dgrad(gradient: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
    """Count a multiply-add for every weight at every position of the gradient [B, K, H, W]."""
    return 2 * prod(weight) * prod(gradient) // gradient[1]


@register_flop_formula(_OPERATORS.tap_dgrad)
def _tap_dgrad(
    gradient: Sequence[int], y: Sequence[int], s: Sequence[int], weight: Sequence[int],
    *_: Any, **__: Any,
) -> int:  # fmt: skip
    """Count the product of the tap's gradient too."""
    del s
    return _product(y) + _dgrad(gradient, weight)
