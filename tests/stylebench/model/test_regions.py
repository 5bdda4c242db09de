"""Guided Gram matrices and their loss against explicit loops, and the shares of regions."""

from itertools import product

import pytest
import torch

from stylebench.model.losses import gram, guided_gram, guided_style_loss, style_loss
from stylebench.model.regions import Region, guidance, guidance_at

LAYERS = ("relu1_1", "relu2_1", "relu3_1", "pool3")


def random(*shape, seed=0):
    return torch.rand(shape, dtype=torch.float64, generator=torch.manual_seed(seed))


def looped_gram(F, T):
    """G_ij = sum_k T_k F_ik T_k F_jk / sum_k T_k^2, number by number."""
    F, T = F.flatten(2)[0].tolist(), T.flatten().tolist()
    mass = sum(t * t for t in T)
    return [
        [sum(t * a * t * b for t, a, b in zip(T, row, other, strict=True)) / mass for other in F]
        for row in F
    ]


def test_guided_gram_is_the_sum_over_masked_positions():
    F, T = random(1, 3, 4, 5), random(2, 1, 4, 5, seed=1)
    T[0, 0, :2] = 0
    G = guided_gram(F, T)
    assert G.shape == (2, 3, 3)
    for one, t in zip(G, T, strict=True):
        torch.testing.assert_close(one, torch.tensor(looped_gram(F, t), dtype=torch.float64))


def test_guided_loss_and_gradient_are_those_of_the_sum_over_regions():
    F, T, A = random(1, 3, 4, 5), random(2, 1, 4, 5, seed=1), random(2, 3, 3, seed=2)
    A = A + A.mT
    k, M = 0.7, 20
    loss, gradient = 0.0, torch.zeros(3, 20, dtype=torch.float64)
    for r in range(2):
        D = torch.tensor(looped_gram(F, T[r]), dtype=torch.float64) - A[r]
        t, f = T[r].flatten(), F.flatten(2)[0]
        share = sum(value**2 for value in t.tolist()) / M
        loss += k * share * sum(d * d for d in D.flatten().tolist())
        for i, p in product(range(3), range(M)):
            gradient[i, p] += 4 * k / M * t[p] ** 2 * sum(D[i, j] * f[j, p] for j in range(3))
    x = F.clone().requires_grad_()
    value = guided_style_loss(x, A, k, T)
    assert value.item() == pytest.approx(loss, rel=1e-12)
    (found,) = torch.autograd.grad(value, x)
    torch.testing.assert_close(found, gradient.view(1, 3, 4, 5))


def test_a_white_mask_is_no_mask():
    F, A = random(1, 3, 4, 5), random(1, 3, 3, seed=2)
    T = torch.ones(1, 1, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(guided_gram(F, T), gram(F), rtol=1e-14, atol=0)
    expected = style_loss(F, A, 3.0)
    torch.testing.assert_close(guided_style_loss(F, A, 3.0, T), expected, rtol=1e-14, atol=0)


def test_a_black_mask_has_no_loss_and_no_gradient():
    x, A = random(1, 3, 4, 5).requires_grad_(), random(1, 3, 3, seed=2)
    loss = guided_style_loss(x, A, 3.0, torch.zeros(1, 1, 4, 5, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(loss, x)
    assert loss.item() == 0
    assert not gradient.any()


def test_a_position_is_pulled_alike_however_large_its_region_is():
    texture, A = random(1, 3, 4, 4), random(1, 3, 3, seed=2)
    x = torch.cat([texture, texture, texture], dim=3).requires_grad_()
    third = torch.zeros(1, 1, 4, 12, dtype=torch.float64)
    third[..., :4] = 1
    (whole,) = torch.autograd.grad(style_loss(x, A, 2.0), x)
    (masked,) = torch.autograd.grad(guided_style_loss(x, A, 2.0, third), x)
    torch.testing.assert_close(masked[..., :4], whole[..., :4], rtol=1e-12, atol=0)
    assert not masked[..., 4:].any()


@pytest.mark.parametrize("layer", LAYERS)
def test_soft_edges_share_a_position(layer):
    """The squares of guidance add up to 1, and so the regions' Gram matrices to the whole's."""
    mask = random(1, 1, 43, 50)
    T = guidance(torch.cat([mask, 1 - mask]), layer)
    torch.testing.assert_close(T.square().sum(0), torch.ones_like(T[0]), rtol=1e-14, atol=0)
    F = random(1, 5, *T.shape[2:], seed=3)
    shares = T.square().mean((2, 3), keepdim=True)[..., 0]
    total = (shares * guided_gram(F, T)).sum(0, keepdim=True)
    torch.testing.assert_close(total, gram(F), rtol=1e-12, atol=0)


def test_guidance_is_of_the_pixels_that_a_position_was_pooled_from():
    mask = random(1, 1, 9, 11)  # the last rows and columns are in no window
    T = guidance(mask, "relu3_1")
    assert T.shape == (1, 1, 2, 2)
    for row, column in product(range(2), repeat=2):
        pixels = mask[0, 0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        assert T[0, 0, row, column].item() == pytest.approx(pixels.mean().sqrt().item())


def test_a_region_whose_style_has_no_position_at_a_layer_has_no_loss_there():
    content, style = torch.ones(1, 1, 10, 10), torch.zeros(1, 1, 10, 10)
    style[..., 9, 9] = 1  # in no window of pool2
    region = Region(content, [style], [1.0])
    T = guidance_at([region], ["relu1_1", "relu3_1"])
    assert T["relu1_1"].all()
    assert not T["relu3_1"].any()


def test_without_masks_there_is_no_guidance():
    assert guidance_at([Region(None, [None], [1.0])], LAYERS) == {}
