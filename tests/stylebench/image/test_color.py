"""Color transforms against numpy's statistics and scipy's roots in fp64, and by hand."""

import colorsys

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from stylebench.image.color import (
    FLOOR,
    luminance,
    match_colors,
    match_luminance,
    moments,
    with_luminance,
)
from stylebench.image.load import load_image

ROOTS = ["symmetric", "cholesky"]
EPS = torch.finfo(torch.float64).eps


def picture(seed, height=20, width=31, mix=((0.9, 0.2, 0.1), (0.1, 0.5, 0.3), (0.2, 0.1, 0.3))):
    """Correlated colors [3, H, W] in fp64."""
    noise = torch.randn(3, height * width, dtype=torch.float64, generator=torch.manual_seed(seed))
    mixed = torch.tensor(mix, dtype=torch.float64) @ noise
    return (0.5 + 0.1 * mixed + 0.03 * torch.arange(3)[:, None]).view(3, height, width)


S, C = picture(0), picture(1, 17, 23, ((0.3, 0.4, 0.0), (0.0, 0.8, 0.1), (0.5, 0.0, 0.6)))
GRAY = picture(2)[:1].repeat(3, 1, 1)
FLAT = torch.tensor([0.2, 0.7, 0.4], dtype=torch.float64)[:, None, None].repeat(1, 9, 8)


def covariance(x, weights=None):
    weights = None if weights is None else weights.flatten().numpy()
    return np.cov(x.flatten(1).double().numpy(), bias=True, aweights=weights)


@pytest.mark.parametrize("root", ROOTS)
def test_colors_get_the_mean_and_the_covariance_of_the_content(root):
    matched = match_colors(S, C, root)
    condition = np.linalg.cond(covariance(S))
    np.testing.assert_allclose(matched.mean((1, 2)), C.mean((1, 2)), rtol=100 * EPS)
    np.testing.assert_allclose(
        covariance(matched), covariance(C), rtol=0, atol=100 * condition * EPS
    )
    assert np.abs(covariance(S) - covariance(C)).max() > 1e-3  # which they had not before


def test_the_transforms_are_those_of_scipys_roots_and_numpys_cholesky():
    K_S, K_C = covariance(S), covariance(C)
    away = (S - S.mean((1, 2), keepdim=True)).flatten(1).numpy()
    mean = C.mean((1, 2)).numpy()[:, None]
    expected = {
        "symmetric": sqrtm(K_C) @ np.linalg.inv(sqrtm(K_S)),
        "cholesky": np.linalg.cholesky(K_C) @ np.linalg.inv(np.linalg.cholesky(K_S)),
    }
    for root, A in expected.items():
        found = match_colors(S, C, root).flatten(1).numpy()
        np.testing.assert_allclose(found, A @ away + mean, rtol=0, atol=1e-12)
    assert np.abs(expected["symmetric"] - expected["cholesky"]).max() > 0.1


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize(
    ("style", "content"),
    [(GRAY, C), (S, GRAY), (GRAY, GRAY.flip(1)), (FLAT, C), (S, FLAT), (FLAT, FLAT), (S, S)],
    ids=["gray style", "gray content", "both gray", "flat style", "flat content", "flat", "same"],
)
def test_singular_covariances_stay_finite_and_add_no_color(style, content, root):
    matched = match_colors(style, content, root)
    assert bool(matched.isfinite().all())
    np.testing.assert_allclose(matched.mean((1, 2)), content.mean((1, 2)), atol=1e-12)
    # At most the content's variance and the floor, which no 8 bits show.
    most = np.linalg.eigvalsh(covariance(content))[-1] + FLOOR**2
    assert np.linalg.eigvalsh(covariance(matched))[-1] <= most * (1 + 1e-9)
    if content is GRAY:
        spread = matched.std(dim=0).square().mean().sqrt() * np.sqrt(2)
        assert spread <= 2 * FLOOR


def test_a_picture_matched_to_itself_stays_the_same():
    np.testing.assert_allclose(match_colors(S, S), S, rtol=0, atol=1e-12)
    np.testing.assert_allclose(match_colors(S, S, "cholesky"), S, rtol=0, atol=1e-12)


@pytest.mark.parametrize("root", ROOTS)
def test_pixels_of_weight_0_do_not_count(root):
    weights = torch.ones(1, 17, 23, dtype=torch.float64)
    weights[:, :8] = 0
    np.testing.assert_allclose(
        match_colors(S, C, root, weights), match_colors(S, C[:, 8:], root), rtol=0, atol=1e-12
    )
    half = torch.rand(1, 17, 23, dtype=torch.float64, generator=torch.manual_seed(3))
    np.testing.assert_allclose(moments(C, half)[1], covariance(C, half), rtol=1e-12)
    assert torch.equal(moments(C, 0 * half)[1], moments(C)[1])  # nothing counts: all alike


def test_an_unknown_root_is_refused():
    with pytest.raises(ValueError, match="unknown root 'qr': expected one of symmetric, cholesky"):
        match_colors(S, C, "qr")


def test_luminance_is_colorsyss_y_of_yiq():
    Y = luminance(S)
    assert torch.equal(Y[0], Y[1])
    assert torch.equal(Y[0], Y[2])
    r, g, b = S[:, 3, 5].tolist()
    # colorsys rounds its shares to two digits
    assert Y[0, 3, 5].item() == pytest.approx(0.299 * r + 0.587 * g + 0.114 * b, rel=1e-14)
    assert Y[0, 3, 5].item() == pytest.approx(colorsys.rgb_to_yiq(r, g, b)[0], abs=0.01)


@pytest.mark.parametrize("style", [S, GRAY, FLAT], ids=["colors", "gray", "flat"])
def test_luminance_gets_the_mean_and_the_deviation_of_the_contents(style):
    matched, Y_C = match_luminance(style, C), luminance(C)
    assert torch.equal(matched[0], matched[2])
    assert matched[0].mean().item() == pytest.approx(Y_C[0].mean().item(), rel=1e-12)
    deviation = 0 if style is FLAT else Y_C[0].numpy().std()
    assert matched[0].numpy().std() == pytest.approx(deviation, rel=1e-12, abs=1e-12)


def test_chrominance_is_put_back_under_another_luminance():
    yiq = torch.tensor(
        [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]],
        dtype=torch.float64,
    )
    x, Y = 0.4 + 0.2 * picture(4), 0.4 + 0.2 * picture(5)
    found = with_luminance(x, Y)
    assert 0 < found.min() < found.max() < 1  # nothing is clamped
    (y, *chrominance) = (yiq @ found.flatten(1)).numpy()
    np.testing.assert_allclose(y, (yiq @ Y.flatten(1))[0], rtol=1e-12)
    np.testing.assert_allclose(chrominance, (yiq @ x.flatten(1))[1:], rtol=0, atol=1e-12)


def test_a_picture_keeps_its_dtype_and_its_own_colors(photo):
    x = load_image(photo).rgb
    assert match_colors(x, x).dtype == luminance(x).dtype == torch.float32
    torch.testing.assert_close(with_luminance(x, x), x, rtol=0, atol=0)


@pytest.mark.parametrize("weighted", [False, True])
def test_large_pictures_are_taken_block_by_block_with_the_same_result(monkeypatch, weighted):
    weights = torch.linspace(0, 1, C[:1].numel(), dtype=torch.float64).view_as(C[:1])

    def transforms():
        given = weights if weighted else None
        mean, K = moments(C, given)
        matched = match_colors(S, C, "cholesky", given)
        return mean, K, matched, match_luminance(S, C, given), luminance(S)

    whole = transforms()
    seen = []
    split = torch.split
    monkeypatch.setattr("stylebench.image.color._BLOCK", 100)
    monkeypatch.setattr(torch, "split", lambda x, n, dim: seen.append(n) or split(x, n, dim))
    for expected, found in zip(whole, transforms(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)
    assert set(seen) == {100}
