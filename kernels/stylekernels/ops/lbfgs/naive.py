"""The two-loop recursion of L-BFGS in plain torch: the oracle, to be read beside the kernels."""

from collections.abc import Callable

from torch import Tensor


def direction(
    grad: Tensor,
    S: Tensor,
    Y: Tensor,
    P: Callable[[Tensor], Tensor] = lambda v: v,
    reach: float = 1.0,
) -> Tensor:
    """Return the step -H grad [n], H from the pairs s [count, n] and y [count, n], oldest first.

    Source: Nocedal and Wright, Numerical Optimization, algorithm 7.4, with H0 = gamma P and
    gamma = reach s.y / y.Py of the newest pair.
    """
    q = -grad
    alphas = []
    for s, y in zip(S.flip(0), Y.flip(0), strict=True):
        alphas.append(s.dot(q) / s.dot(y))
        q = q - alphas[-1] * y
    r = P(q) * (reach * S[-1].dot(Y[-1]) / Y[-1].dot(P(Y[-1])))
    for s, y, alpha in zip(S, Y, reversed(alphas), strict=True):
        r = r + (alpha - y.dot(r) / y.dot(s)) * s
    return r


def inner_products(rows: Tensor, vectors: Tensor) -> Tensor:
    """Return the products [rows, vectors] of every row [rows, n] with every vector [vectors, n]."""
    return rows @ vectors.T
