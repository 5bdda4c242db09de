"""The paper's losses in plain PyTorch (arXiv 1508.06576, section "Methods").

F are a layer's features [B, N, H, W]: N channels at M = H W positions.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from stylebench.model.objective import Objective, TotalVariation


def gram(F: Tensor) -> Tensor:
    """G_ij = sum_k F_ik F_jk / M: features [B, N, H, W] -> [B, N, N], same dtype."""
    F = F.flatten(2)  # [B, N, H, W] -> [B, N, M]
    return F @ F.mT / F.shape[-1]


def content_loss(F: Tensor, P: Tensor, weight: float) -> Tensor:
    """Weight * sum((F - P)^2), with features F and the content image's P [B, N, H, W]."""
    return weight * (F - P).square().sum()


def style_loss(F: Tensor, A: Tensor, weight: float) -> Tensor:
    """Weight * sum((G - A)^2), with G = gram(F) and the style images' Gram matrix A [B, N, N]."""
    return weight * (gram(F) - A).square().sum()


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
) -> Tensor:
    """Every term of the loss, [terms], in the order of ``objective.terms``; the loss is their sum.

    Args:
        x: the preprocessed image [1, 3, H, W].
        F: layer -> its features [1, N, H', W'].
        objective: the coefficients.
        P: layer -> the content image's features [1, N, H', W'].
        A: layer -> the style images' Gram matrix [1, N, N].
    """
    terms = [content_loss(F[layer], P[layer], c) for layer, c in objective.content.items()]
    terms += [style_loss(F[layer], A[layer], k) for layer, k in objective.style.items()]
    if objective.tv:
        terms.append(tv_loss(x, objective.tv, objective.tv_kind, objective.seamless))
    return torch.stack(terms)
