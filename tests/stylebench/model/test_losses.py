"""The losses against hand-computed values, and the Gram matrix's properties."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from stylebench.model.losses import content_loss, gram, style_loss, tv_loss

shapes = st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 5))
seeds = st.integers(0, 2**31)


def random_features(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, *shape, dtype=torch.float64, generator=generator)


def test_gram_of_two_channels_by_hand():
    F = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])  # two channels at two positions
    expected = torch.tensor([[[2.5, 0.5], [0.5, 5.0]]])
    torch.testing.assert_close(gram(F), expected)


def test_content_loss_by_hand():
    F, P = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[0.0, 5.0]]]])
    assert content_loss(F, P, 0.5).item() == 0.5 * (1 + 9)


def test_style_loss_by_hand():
    F = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])
    A = torch.tensor([[[0.5, 0.5], [0.5, 1.0]]])
    assert style_loss(F, A, 3.0).item() == 3 * (4 + 0 + 0 + 16)


def test_total_variation_by_hand():
    x = torch.tensor([[[[1.0, 4.0], [2.0, 2.0]]]])
    assert tv_loss(x, 2.0, "l1").item() == 2 * (3 + 0 + 1 + 2)
    assert tv_loss(x, 2.0, "l2").item() == 2 * (9 + 0 + 1 + 4)


def test_gradients_agree_with_finite_differences(features):
    x = features.requires_grad_()
    P, A = torch.zeros_like(features), torch.eye(4, dtype=torch.float64)[None]
    assert gradcheck(lambda F: content_loss(F, P, 0.7), (x,))
    assert gradcheck(lambda F: style_loss(F, A, 0.7), (x,))
    assert gradcheck(lambda F: tv_loss(F, 0.7, "l1"), (x,))
    assert gradcheck(lambda F: tv_loss(F, 0.7, "l2"), (x,))


def test_style_gradient_has_the_closed_form(features):
    F = features.requires_grad_()
    A = torch.eye(4, dtype=torch.float64)[None]
    (gradient,) = torch.autograd.grad(style_loss(F, A, 0.3), F)
    flat, M = F.detach().flatten(2), 15
    expected = (4 * 0.3 / M) * (gram(F.detach()) - A) @ flat
    torch.testing.assert_close(gradient.flatten(2), expected)


@settings(max_examples=30, deadline=None)
@given(shapes, seeds)
def test_gram_is_symmetric_and_positive_semidefinite(shape, seed):
    G = gram(random_features(shape, seed))
    torch.testing.assert_close(G, G.mT)
    assert torch.linalg.eigvalsh(G).min() >= -1e-10


@settings(max_examples=30, deadline=None)
@given(shapes, seeds)
def test_gram_does_not_see_where_things_are(shape, seed):
    F = random_features(shape, seed).flatten(2)
    order = torch.randperm(F.shape[-1], generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(gram(F[..., order]), gram(F))


@settings(max_examples=30, deadline=None)
@given(shapes, seeds, st.floats(0, 1))
def test_blending_targets_blends_losses_up_to_a_constant(shape, seed, weight):
    F, a, b = (random_features(shape, seed + offset) for offset in range(3))
    A, B = gram(a), gram(b)
    blend = weight * A + (1 - weight) * B
    apart = weight * style_loss(F, A, 1.0) + (1 - weight) * style_loss(F, B, 1.0)
    constant = weight * (1 - weight) * (A - B).square().sum()
    torch.testing.assert_close(style_loss(F, blend, 1.0) + constant, apart)
