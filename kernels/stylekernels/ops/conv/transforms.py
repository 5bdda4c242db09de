"""Winograd's minimal filtering F(4 x 4, 3 x 3): formulas for numbers, tensors or vectors alike.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308: a tile of
4 x 4 outputs takes 36 products a channel in place of 144. Theirs interpolates at 0, 1, -1, 2, -2
and infinity. With the points 0, +-5/8, +-3/2 and infinity all factors lie closer to 1, and the
result's rounding error is less than half. Every factor is exact in fp32, or off by less than 3e-9:
a factor rounded as usual would move all results the same way, and the losses with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isqrt
from typing import Any

TILE = 4  # outputs of a tile, along each side
PATCH = 6  # inputs that they depend on
POINTS = PATCH * PATCH

_A, _B = 5 / 8, 3 / 2  # the points, with both signs
_A2, _B2 = _A**2, _B**2
# Inputs are taken so many times, and kernels divided by it: those quotients are nearly exact.
_TIMES_0, _TIMES_A = 3, 9


def kernel_transform(g: Sequence[Any]) -> list[Any]:
    """G g, of three values of a kernel: at the points, over the derivative of all (x - point)."""
    at_0 = 1 / (_TIMES_0 * _A2 * _B2)
    at_a, at_b = 1 / (_TIMES_A * 2 * _A2 * (_A2 - _B2)), 1 / (2 * _B2 * (_B2 - _A2))
    even_a, odd_a = g[0] + _A2 * g[2], _A * g[1]
    even_b, odd_b = g[0] + _B2 * g[2], _B * g[1]
    return [
        at_0 * g[0],
        at_a * (even_a + odd_a),
        at_a * (even_a - odd_a),
        at_b * (even_b + odd_b),
        at_b * (even_b - odd_b),
        g[2],
    ]


def input_transform(d: Sequence[Any]) -> list[Any]:
    """B^T d, of six inputs in a row."""
    a, a_b2 = _TIMES_A * _A, _TIMES_A * _A * _B2
    even_a, odd_a = _TIMES_A * d[4] - _TIMES_A * _B2 * d[2], a * d[3] - a_b2 * d[1]
    even_b, odd_b = d[4] - _A2 * d[2], _B * (d[3] - _A2 * d[1])
    return [
        _TIMES_0 * _A2 * _B2 * d[0] - _TIMES_0 * (_A2 + _B2) * d[2] + _TIMES_0 * d[4],
        even_a + odd_a,
        even_a - odd_a,
        even_b + odd_b,
        even_b - odd_b,
        _A2 * _B2 * d[1] - (_A2 + _B2) * d[3] + d[5],
    ]


def output_transform(m: Sequence[Any]) -> list[Any]:
    """A^T m, of six products in a row."""
    even_a, odd_a = m[1] + m[2], m[1] - m[2]
    even_b, odd_b = m[3] + m[4], m[3] - m[4]
    return [
        m[0] + even_a + even_b,
        _A * odd_a + _B * odd_b,
        _A2 * even_a + _B2 * even_b,
        _A2 * _A * odd_a + _B2 * _B * odd_b + m[5],
    ]


def both_ways(transform: Callable[[Sequence[Any]], list[Any]], x: Sequence[Any]) -> list[Any]:
    """``transform`` along the columns of a square given row by row, then along its rows."""
    side = isqrt(len(x))
    columns = [transform(x[column::side]) for column in range(side)]
    rows = zip(*columns, strict=True)
    return [value for row in rows for value in transform(row)]
