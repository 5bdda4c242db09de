"""Functions to minimize, each with a start in fp64, and strips narrow enough for small images."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stylebench.engines.fused import tiling
from stylebench.model import precision

Problem = tuple[Callable[[Tensor], Tensor], Tensor]


def make_quadratic(n: int, condition: float, seed: int = 0) -> Problem:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.logspace(0, -math.log10(condition), n, dtype=torch.float64)
    center = torch.randn(n, generator=generator, dtype=torch.float64)
    start = torch.randn(n, generator=generator, dtype=torch.float64)
    return lambda x: 0.5 * (scale.to(x) * (x - center.to(x)) ** 2).sum(), start


def make_style(size: int, seed: int = 1) -> Problem:
    """Grams of two random convolutions against another picture's, content of a third."""
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


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Call it for strips of about so many rows, however wide the map is."""

    def set_rows(rows: int) -> None:
        monkeypatch.setattr(tiling, "TILE_BYTES", 0)
        monkeypatch.setattr(tiling, "MIN_ROWS", rows)

    return set_rows


class Apple(Tensor):
    """A tensor as on an Apple GPU: there is no fp64, and ``cpu`` is the way to it."""

    def double(self) -> Tensor:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    def cpu(self) -> Tensor:
        return self.as_subclass(Tensor)


@pytest.fixture
def apple(monkeypatch: pytest.MonkeyPatch) -> type[Tensor]:
    """For ``x.as_subclass(apple)``, where no device multiplies fp64."""
    monkeypatch.setattr(precision, "multiplies_fp64", lambda device: False)
    return Apple


class OnGPU(Tensor):
    """A tensor that claims to be on one."""

    is_cuda = True


@pytest.fixture
def pretended_gpu() -> type[Tensor]:
    """For ``x.as_subclass(pretended_gpu)``."""
    return OnGPU
