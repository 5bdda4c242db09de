"""PSNR and SSIM against scikit-image's, and by hand."""

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from stylebench.image.load import load_image
from stylebench.image.metrics import WINDOW, psnr, ssim

# Both compute in fp64, from the same definition. A window's mean of values up to 1 is off by at
# most 22 roundings of 2^-53, a variance or covariance by thrice that, and the similarity by their
# sum over the smallest denominator, K2^2 = 9e-4: 4 * 3 * 22 * 2^-53 / 9e-4 = 3e-11.
TOLERANCE = 3e-11


def scikit_images(a, b):
    """scikit-image's mean SSIM over the windows within the image; it pads, then crops as much."""
    return structural_similarity(
        a.double().numpy(), b.double().numpy(), channel_axis=0, data_range=1.0,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip


def noisy(image, strength):
    noise = torch.randn(image.shape, generator=torch.manual_seed(1))
    return (image + strength * noise).clamp(0, 1)


def cases():
    noise = torch.rand(3, 24, 31, generator=torch.manual_seed(0))
    smooth = (
        torch.linspace(0, 1, 31).expand(3, 24, 31) * torch.tensor([1.0, 0.5, 0.2])[:, None, None]
    )
    yield "noise and noise", noise, noise.flip(2)
    yield "negative", noise, 1 - noise
    yield "smooth and noisy", smooth, noisy(smooth, 0.1)
    yield "brighter", smooth, (smooth + 0.2).clamp(0, 1)
    yield "one channel", noise[:1], noisy(noise[:1], 0.3)
    yield "smallest", noise[:, :WINDOW, :WINDOW], smooth[:, :WINDOW, :WINDOW]


@pytest.mark.parametrize(("a", "b"), [pytest.param(a, b, id=name) for name, a, b in cases()])
def test_ssim_is_scikit_images(a, b):
    assert ssim(a, b) == pytest.approx(scikit_images(a, b), abs=TOLERANCE, rel=0)


@pytest.mark.parametrize("strength", [0.01, 0.1, 0.5])
def test_ssim_of_a_noisy_picture_is_scikit_images(photo, strength):
    rgb = load_image(photo).rgb
    expected = scikit_images(rgb, noisy(rgb, strength))
    assert ssim(rgb, noisy(rgb, strength)) == pytest.approx(expected, abs=TOLERANCE, rel=0)


def test_ssim_by_hand():
    image = torch.rand(3, 16, 16, generator=torch.manual_seed(0))
    assert ssim(image, image) == pytest.approx(1.0)
    flat, darker = torch.full((3, 16, 16), 0.5), torch.full((3, 16, 16), 0.25)
    # no structure: only the means count
    assert ssim(flat, darker) == pytest.approx((2 * 0.5 * 0.25 + 1e-4) / (0.25 + 0.0625 + 1e-4))
    assert ssim(image, 1 - image) < 0


def test_psnr_is_scikit_images_and_infinite_for_equal_images():
    a = torch.rand(3, 16, 16, generator=torch.manual_seed(0))
    b = noisy(a, 0.1)
    expected = peak_signal_noise_ratio(a.double().numpy(), b.double().numpy(), data_range=1.0)
    assert psnr(a, b) == pytest.approx(expected, rel=1e-6)  # differences of fp32 images
    assert psnr(a, a) == float("inf")
    assert psnr(torch.zeros(1), torch.full((1,), 0.1)) == pytest.approx(20.0)
