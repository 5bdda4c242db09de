"""FLOP formulas: import this module, and `torch.utils.flop_counter.FlopCounterMode` counts them.

Products only, as torch counts its own: two operations a multiply-add, symmetry not deducted.
Apart from the package itself because torch's counter imports Triton.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

_OPERATORS = torch.ops.stylekernels


def _product(shape: Sequence[int]) -> int:
    """Count X^T X, or X S, of an activation [B, C, H, W]."""
    return 2 * shape[1] * prod(shape)


def _first(x: Sequence[int], *_: Any, **__: Any) -> int:
    return _product(x)


def _second(grad: Sequence[int], x: Sequence[int], *_: Any, **__: Any) -> int:
    del grad
    return _product(x)


def _every(xs: Sequence[Sequence[int]], *_: Any, **__: Any) -> int:
    return sum(_product(x) for x in xs)


def _every_second(grad: Sequence[int], xs: Sequence[Sequence[int]], *_: Any, **__: Any) -> int:
    del grad
    return sum(_product(x) for x in xs)


register_flop_formula([_OPERATORS.gram, _OPERATORS.style_loss])(_first)
register_flop_formula([_OPERATORS.style_tap, _OPERATORS.style_tap_])(_first)
register_flop_formula([_OPERATORS.gram_backward, _OPERATORS.style_loss_backward])(_second)
register_flop_formula([_OPERATORS.style_tap_backward, _OPERATORS.style_tap_backward_])(_second)
register_flop_formula(_OPERATORS.style_losses)(_every)
register_flop_formula(_OPERATORS.style_losses_backward)(_every_second)
