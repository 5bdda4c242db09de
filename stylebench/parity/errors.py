"""Errors of an engine's loss and gradient at an image, and images that differ by a rounding."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import TypeAlias

import torch
from torch import Tensor

from stylebench.engines import Engine
from stylebench.model.precision import in_fp64

Evaluation: TypeAlias = tuple[Tensor, Tensor]  # loss terms [K] and gradient [1, 3, H, W], fp64

_PERTURBATIONS = 2


def evaluate(engine: Engine, image: Tensor) -> Evaluation:
    """Loss terms [K] and gradient [1, 3, H, W] at ``image``, in fp64, where there is fp64."""
    terms, gradient = engine.loss_and_grad(image)
    return in_fp64(terms.values), in_fp64(gradient)


def deviation(evaluation: Evaluation, exact: Evaluation) -> tuple[float, float]:
    """Largest error of a loss term, as a share of the loss; error of the gradient, of its norm."""
    gradient = relative((evaluation[1] - exact[1]).norm().item(), exact[1].norm().item())
    return loss_error(evaluation[0], exact[0]), gradient


def loss_error(terms: Tensor, exact: Tensor) -> float:
    """Largest error of the loss terms [K], as a share of the loss."""
    return relative((terms - exact).abs().max().item(), exact.sum().item())


def relative(error: float, scale: float) -> float:
    """``error`` as a share of ``scale``; beside a scale of 0 it is none at all, or infinite.

    One picture as content and as style has losses of 0, and gradients.
    """
    return error / scale if scale else error and error * inf


def errors(engine: Engine, point: Tensor, exact: Evaluation) -> tuple[float, float]:
    """The ``deviation`` of an engine at an image.

    Args:
        engine: to be judged.
        point: preprocessed image [1, 3, H, W].
        exact: the oracle's ``evaluate`` there.
    """
    return deviation(evaluate(engine, point), exact)


def perturbed(start: Tensor, share: float) -> Iterator[Tensor]:
    """Images that differ from ``start`` by invisible seeded noise; the same on every machine.

    Args:
        start: any image.
        share: the noise's standard deviation, as a share of the image's.
    """
    generator = torch.Generator().manual_seed(0)
    for _ in range(_PERTURBATIONS):
        noise = torch.randn(start.shape, generator=generator).to(start)
        yield start + share * start.std() * noise
