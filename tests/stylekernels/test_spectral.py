"""Gains for the frequencies and colors of an image's spectrum."""

import pytest
import torch

import stylekernels as sk
from stylekernels.ops.spectral import naive

SHAPES = [(1, 3, 5, 4), (2, 3, 6, 3), (1, 3, 1, 1), (2, 3, 33, 17)]


@pytest.fixture
def operands(device):
    """Makes a spectrum of a shape, orthonormal colors and gains, for complex64 or complex128."""
    generator = torch.Generator().manual_seed(3)

    def make(shape, dtype=torch.complex64):
        kind = dtype.to_real()
        spectrum = torch.randn(shape, generator=generator, dtype=torch.complex128)
        colors = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=kind))[0]
        gains = torch.rand(shape[1:], generator=generator, dtype=kind) + 0.5
        return spectrum.to(device, dtype), colors.contiguous().to(device), gains.to(device)

    return make


def wide(spectrum, colors, gains):
    return spectrum.to(torch.complex128).cpu(), colors.double().cpu(), gains.double().cpu()


def parts(spectrum):
    return torch.view_as_real(spectrum)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_spectrum_errs_no_more_than_the_formula(shape, operands, no_worse_than):
    spectrum, colors, gains = operands(shape)
    oracle = naive.scale_spectrum(*wide(spectrum, colors, gains))
    plain = naive.scale_spectrum(spectrum, colors, gains)
    sk.scale_spectrum_(spectrum, colors, gains)
    no_worse_than(parts(spectrum), parts(plain), parts(oracle))


def test_complex128_goes_through_plain_torch(operands):
    spectrum, colors, gains = operands((1, 3, 4, 3), torch.complex128)
    exact = naive.scale_spectrum(spectrum, colors, gains)
    sk.scale_spectrum_(spectrum, colors, gains)
    torch.testing.assert_close(spectrum, exact, rtol=1e-14, atol=1e-14)


def test_the_same_bits_come_out_every_time(operands):
    first, colors, gains = operands((1, 3, 9, 7))
    again = first.clone()
    for spectrum in (first, again):
        sk.scale_spectrum_(spectrum, colors, gains)
    assert torch.equal(first, again)


def test_what_is_not_finite_comes_to_all_colors_of_its_frequency(operands):
    spectrum, colors, gains = operands((1, 3, 3, 4))
    colors[1, 1] = 0.0
    spectrum[0, 1, 2, 3] = float("nan")
    sk.scale_spectrum_(spectrum, colors, gains)
    lost = spectrum.isnan()
    assert lost[0, :, 2, 3].all()
    assert int(lost.sum()) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, c, g: (s[:, :2], c, g), r"spectrum must be complex \[B, 3, H, F\]"),
        (lambda s, c, g: (s.real, c, g), r"spectrum must be complex \[B, 3, H, F\]"),
        (lambda s, c, g: (s.mT, c, g), "spectrum must be contiguous"),
        (lambda s, c, g: (s, c[:2], g), r"colors must be contiguous torch.float32 \(3, 3\)"),
        (lambda s, c, g: (s, c.T, g), "colors must be contiguous"),
        (lambda s, c, g: (s, c, g[:, 1:]), r"gains must be contiguous torch.float32 \(3, 4, 5\)"),
        (lambda s, c, g: (s, c, g.double()), "gains must be contiguous torch.float32"),
    ],
)
def test_operands_that_do_not_fit_are_refused(change, message, operands):
    with pytest.raises(ValueError, match=message):
        sk.scale_spectrum_(*change(*operands((1, 3, 4, 5))))
