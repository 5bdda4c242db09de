"""Color transforms of a picture: colors matched to another's, and luminance apart from color.

Both ways of Gatys, Bethge, Hertzmann and Shechtman 2016, "Preserving Color in Neural Artistic Style
Transfer" (arXiv 1606.05897), with the paper's names: S is the style image, C the content image.

All is computed in fp64 on sRGB values as files hold them, not on linear light: they are the values
that the network sees, their steps are nearly equal to the eye, and a mean and a deviation in them
say more than in light, where the brightest pixels outweigh all others.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Literal, get_args

import torch
from torch import Tensor

Root = Literal["symmetric", "cholesky"]

#: Shares of red, green and blue in the luminance Y of YIQ (ITU-R BT.601).
LUMA = (0.299, 0.587, 0.114)
#: The deviation of rounding to 8 bits. Colors that vary by less than this do not vary: a transform
#: divides by this in their place, so that no gray or flat picture is divided by 0.
FLOOR = 1 / (255 * sqrt(12))
_BLOCK = 2**20  # pixels in fp64 at a time: a photo has too many to hold some copies of them


def match_colors(
    S: Tensor, C: Tensor, root: Root = "symmetric", weights: Tensor | None = None
) -> Tensor:
    """S with the mean and the covariance of the colors of C: A (x - mean_S) + mean_C.

    With the covariances K_S and K_C, A is K_C^(1/2) K_S^(-1/2) for symmetric roots, which turn the
    color space the least, or L_C L_S^(-1) for ``cholesky``, K = L L^T, whose result depends on the
    order of the channels. Variances below ``FLOOR`` squared, along the main axes of either picture,
    are raised to that: colors of S that do not vary stay as good as flat.

    Args:
        S: RGB [3, H, W].
        C: RGB [3, H', W'].
        root: ``symmetric`` or ``cholesky``.
        weights: [1, H', W'], of the pixels of C, at least 0; None: all alike.

    Returns:
        RGB [3, H, W] in the dtype of S, not clamped.

    Raises:
        ValueError: an unknown root.
    """
    if root not in get_args(Root):
        raise ValueError(f"unknown root {root!r}: expected one of {', '.join(get_args(Root))}")
    mean_S, K_S = moments(S)
    mean_C, K_C = moments(C, weights)
    if root == "symmetric":
        A = _power(K_C, 0.5) @ _power(K_S, -0.5)
    else:
        L_C, L_S = (torch.linalg.cholesky(_power(K, 1)) for K in (K_C, K_S))
        A = torch.linalg.solve_triangular(L_S, L_C, upper=False, left=False)
    return _by_blocks(lambda x: A @ (x - mean_S[:, None]) + mean_C[:, None], S)


def moments(x: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean [N] and covariance [N, N] of the channels of ``x`` [N, H, W], in fp64.

    Args:
        x: any picture.
        weights: [1, H, W], of its pixels, at least 0; None, or all of them 0: all alike.
    """
    shares = x.new_ones(1).expand_as(x[:1]) if weights is None else weights
    blocks = [torch.split(t.flatten(1), _BLOCK, dim=1) for t in (x, shares)]
    sums = torch.zeros(len(x), dtype=torch.float64)
    total = torch.zeros((), dtype=torch.float64)
    products = torch.zeros(len(x), len(x), dtype=torch.float64)
    for values, share in zip(*blocks, strict=True):
        sums += (values.double() * share.double()).sum(dim=1)
        total += share.double().sum()
    if not total > 0:
        return moments(x)
    mean = sums / total
    for values, share in zip(*blocks, strict=True):
        away = values.double() - mean[:, None]
        products += (away * share.double()) @ away.T
    return mean, products / total


def luminance(x: Tensor) -> Tensor:
    """Y of RGB [3, H, W], as three equal channels of the same dtype."""
    shares = x.new_tensor([LUMA], dtype=torch.float64)
    return _by_blocks(lambda values: shares @ values, x).repeat(3, 1, 1)


def match_luminance(S: Tensor, C: Tensor, weights: Tensor | None = None) -> Tensor:
    """The luminance of S with the mean and the deviation of that of C; as ``match_colors``.

    Returns:
        Y as three equal channels [3, H, W], not clamped.
    """
    Y = luminance(S)
    (mean_S, K_S), (mean_C, K_C) = moments(Y[:1]), moments(luminance(C)[:1], weights)
    gain = K_C.clamp(min=0).sqrt() / K_S.sqrt().clamp(min=FLOOR)
    return _by_blocks(lambda y: (y - mean_S) * gain + mean_C, Y)


def with_luminance(x: Tensor, Y: Tensor) -> Tensor:
    """The chrominance of ``x``, I and Q of YIQ, under the luminance of ``Y``.

    A gray has I = Q = 0 and Y alike in all channels: the difference of luminance is added to every
    channel. What leaves [0, 1] by that is clamped.

    Args:
        x: RGB [3, H, W].
        Y: RGB [3, H, W], whose luminance is taken.
    """
    return (x + (luminance(Y) - luminance(x))).clamp(0, 1)


def _by_blocks(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``f``, from pixels [N, m] in fp64 to [N', m], of all of ``x`` [N, H, W], in its dtype."""
    blocks = torch.split(x.flatten(1), _BLOCK, dim=1)
    return torch.cat([f(block.double()).to(x) for block in blocks], dim=1).view(-1, *x.shape[1:])


def _power(K: Tensor, exponent: float) -> Tensor:
    """A power of a symmetric matrix [N, N], its eigenvalues floored."""
    values, vectors = torch.linalg.eigh(K)
    return vectors @ torch.diag(values.clamp(min=FLOOR**2) ** exponent) @ vectors.T
