"""The paper's losses in plain PyTorch (arXiv 1508.06576, section "Methods").

F are a layer's features [B, N, H, W]: N channels at M = H W positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from stylebench.model.objective import Objective, TotalVariation
from stylebench.model.regions import Region, mass


def gram(F: Tensor) -> Tensor:
    """G_ij = sum_k F_ik F_jk / M: features [B, N, H, W] -> [B, N, N], same dtype."""
    F = F.flatten(2)  # [B, N, H, W] -> [B, N, M]
    return F @ F.mT / F.shape[-1]


def guided_gram(F: Tensor, T: Tensor | None) -> Tensor:
    """G_r = (T_r . F) (T_r . F)^T / sum(T_r^2), one a region; without guidance ``gram``.

    Args:
        F: features [1, N, H, W].
        T: guidance [R, 1, H, W]; a region of zeros has a matrix of zeros.

    Returns:
        [R, N, N].
    """
    if T is None:
        return gram(F)
    F = (T * F).flatten(2)  # [R, N, H, W] -> [R, N, M]
    return F @ F.mT / mass(T).clamp_min(torch.finfo(T.dtype).tiny)


def style_grams(F: Tensor, image: int, layer: str, regions: Sequence[Region]) -> Tensor:
    """A style image's part in the targets A of all regions, [R, N, N].

    Args:
        F: its features [1, N, H, W] at ``layer``.
        image: its index among the style images.
        layer: the layer's name.
        regions: one or more; ``whole_picture`` without masks.
    """
    grams = [
        region.style_weights[image] * guided_gram(F, region.style_guidance(image, layer))
        for region in regions
    ]
    return torch.cat(grams)


def content_loss(F: Tensor, P: Tensor, weight: float) -> Tensor:
    """Weight * sum((F - P)^2), with features F and the content image's P [B, N, H, W]."""
    return weight * (F - P).square().sum()


def style_loss(F: Tensor, A: Tensor, weight: float) -> Tensor:
    """Weight * sum((G - A)^2), with G = gram(F) and the style images' Gram matrix A [B, N, N]."""
    return weight * (gram(F) - A).square().sum()


def guided_style_loss(F: Tensor, A: Tensor, weight: float, T: Tensor) -> Tensor:
    """Weight * sum_r m_r sum((G_r - A_r)^2), with the regions' shares m_r of the picture.

    Args:
        F: features [1, N, H, W].
        A: one Gram matrix a region [R, N, N].
        weight: of the whole.
        T: guidance [R, 1, H, W]; m_r = sum(T_r^2) / M.
    """
    m = mass(T) / (F.shape[2] * F.shape[3])
    return weight * (m * (guided_gram(F, T) - A).square()).sum()


def tv_loss(x: Tensor, weight: float, kind: TotalVariation, seamless: bool = False) -> Tensor:
    """Total variation of an image [B, 3, H, W]: weight * sum(|dx| + |dy|), or of their squares.

    A seamless image has a step from its last row to its first, too, and so have its columns.
    """
    dx = x[..., :, 1:] - x[..., :, :-1]
    dy = x[..., 1:, :] - x[..., :-1, :]
    if seamless:
        dx, dy = x.roll(-1, dims=-1) - x, x.roll(-1, dims=-2) - x
    if kind == "l1":
        return weight * (dx.abs().sum() + dy.abs().sum())
    return weight * (dx.square().sum() + dy.square().sum())


def loss_terms(
    x: Tensor,
    F: Mapping[str, Tensor],
    objective: Objective,
    P: Mapping[str, Tensor],
    A: Mapping[str, Tensor],
    T: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Every term of the loss, [terms], in the order of ``objective.terms``; the loss is their sum.

    Args:
        x: the preprocessed image [1, 3, H, W].
        F: layer -> its features [1, N, H', W'].
        objective: the coefficients.
        P: layer -> the content image's features [1, N, H', W'].
        A: layer -> the style images' Gram matrix [1, N, N], or one a region [R, N, N].
        T: layer -> the regions' guidance [R, 1, H', W']; without regions none.
    """
    terms = [content_loss(F[layer], P[layer], c) for layer, c in objective.content.items()]
    for layer, k in objective.style.items():
        if T:
            terms.append(guided_style_loss(F[layer], A[layer], k, T[layer]))
        else:
            terms.append(style_loss(F[layer], A[layer], k))
    if objective.tv:
        terms.append(tv_loss(x, objective.tv, objective.tv_kind, objective.seamless))
    return torch.stack(terms)
