"""The spectral preconditioner: against a transform written out, and what it is worth."""

import cmath
from math import pi, sqrt

import pytest
import torch
from torch import Tensor

from stylebench.optim import spectral
from stylebench.optim.spectral import SpectralPreconditioner

SIZES = pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 4), (6, 7)], ids=str)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def wave(size: tuple[int, int], row: int, column: int) -> Tensor:
    """A grey picture [1, 3, H, W] of one frequency."""
    height, width = size
    y, x = torch.arange(height)[:, None], torch.arange(width)[None]
    picture = torch.cos(2 * pi * (row * y / height + column * x / width))
    return picture.double().expand(1, 3, *size)


def transform(size: tuple[int, int]) -> Tensor:
    """The unitary matrix [H W, H W] of the two-dimensional transform, entry by entry."""
    height, width = size
    places = [(y, x) for y in range(height) for x in range(width)]
    rows = [
        [cmath.exp(-2j * pi * (k * y / height + m * x / width)) for y, x in places]
        for k, m in places
    ]
    return torch.tensor(rows, dtype=torch.complex128) / sqrt(height * width)


def gain(color: int, row: float, column: float) -> float:
    """The gain of a frequency in cycles a pixel, from the table."""
    table, frequency = spectral._GAINS[color], sqrt(row**2 + column**2)
    if not frequency:
        return table[-1]
    place = min(max(2 * cmath.log(sqrt(0.5) / frequency, 2).real - 0.5, 0), len(table) - 1)
    below = min(int(place), len(table) - 2)
    return table[below] ** (below + 1 - place) * table[below + 1] ** (place - below)


@SIZES
def test_it_is_the_gains_between_two_transforms_written_out(size: tuple[int, int]) -> None:
    height, width = size
    gradient = noise(2, 3, *size)
    signed = (
        [(k if 2 * k <= height else k - height) / height for k in range(height)],
        [(m if 2 * m <= width else m - width) / width for m in range(width)],
    )
    F, colors = transform(size), torch.tensor(spectral._COLORS, dtype=torch.float64)
    expected = torch.zeros_like(gradient)
    for color in range(3):
        gains = [gain(color, row, column) for row in signed[0] for column in signed[1]]
        P = (F.conj().T @ torch.tensor(gains, dtype=torch.complex128).diag() @ F).real
        of_color = torch.einsum("c,bchw->bhw", colors[color], gradient).flatten(1) @ P.T
        expected += colors[color][None, :, None, None] * of_color.view(2, 1, *size)
    found = SpectralPreconditioner(gradient)(gradient)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@SIZES
def test_it_is_symmetric_and_positive_definite(size: tuple[int, int]) -> None:
    a, b = noise(1, 3, *size), noise(1, 3, *size, seed=1)
    P = SpectralPreconditioner(a)
    torch.testing.assert_close((a * P(b)).sum(), (b * P(a)).sum(), rtol=1e-12, atol=1e-12)
    least = min(min(table) for table in spectral._GAINS)
    assert float((a * P(a)).sum()) >= 0.999 * least * float(a.square().sum())


def test_a_smooth_picture_goes_farther_than_one_of_some_pixels() -> None:
    size = (32, 32)
    P = SpectralPreconditioner(wave(size, 1, 0))
    smooth, coarse = (wave(size, *frequency) for frequency in [(1, 0), (8, 8)])
    assert float(P(smooth).norm() / smooth.norm()) > 4 * float(P(coarse).norm() / coarse.norm())


def test_red_and_blue_may_change_places() -> None:
    gradient = noise(1, 3, 6, 7)
    P = SpectralPreconditioner(gradient)
    torch.testing.assert_close(P(gradient.flip(1)), P(gradient).flip(1), rtol=1e-12, atol=1e-12)


def test_a_gradient_that_is_not_finite_stays_so() -> None:
    gradient = noise(1, 3, 6, 7)
    P = SpectralPreconditioner(gradient)
    gradient[0, 1, 2, 3] = float("nan")
    assert not P(gradient).isfinite().any()


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 1, 4, 5)], ids=str)
def test_another_shape_than_a_pictures_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \[B, 3, H, W\]"):
        SpectralPreconditioner(torch.zeros(shape))
