"""Functions to minimize, each with a start in fp64."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

Problem = tuple[Callable[[Tensor], Tensor], Tensor]


def make_quadratic(n: int, condition: float, seed: int = 0) -> Problem:
    """A diagonal quadratic of ``n`` variables with this condition number."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.logspace(0, -math.log10(condition), n, dtype=torch.float64)
    center = torch.randn(n, generator=generator, dtype=torch.float64)
    start = torch.randn(n, generator=generator, dtype=torch.float64)
    return lambda x: 0.5 * (scale.to(x) * (x - center.to(x)) ** 2).sum(), start


def make_style(size: int, seed: int = 1) -> Problem:
    """Style transfer by three random convolutions: one picture's style, another's content."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((16, 3), (16, 16), (32, 16))
    weights = [
        torch.randn(a, b, 3, 3, generator=generator, dtype=torch.float64) * (2 / (9 * b)) ** 0.5
        for a, b in shapes
    ]
    pictures = torch.rand(2, 1, 3, size, size, generator=generator, dtype=torch.float64)

    def features(x: Tensor) -> list[Tensor]:
        maps = []
        for weight in weights:
            x = F.conv2d(x, weight.to(x), padding=1).relu()
            maps.append(x)
        return maps

    def gram(f: Tensor) -> Tensor:
        f = f.flatten(2)[0]
        return f @ f.T / f.shape[1]

    targets = [gram(f) for f in features(pictures[0])]
    content = features(pictures[1])[2]

    def loss(x: Tensor) -> Tensor:
        maps = features(x)
        total = F.mse_loss(maps[2], content.to(x))
        for f, target in zip(maps, targets, strict=True):
            total = total + 1e2 * F.mse_loss(gram(f), target.to(x))
        return total

    start = 0.3 * torch.randn(1, 3, size, size, generator=generator, dtype=torch.float64)
    return loss, start


@pytest.fixture(scope="session")
def quadratic() -> Callable[..., Problem]:
    return make_quadratic


@pytest.fixture(scope="session")
def style() -> Callable[..., Problem]:
    return make_style
