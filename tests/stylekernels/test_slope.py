"""S of fp16 features: fp16 and a power of two, whatever the size of a loss."""

import pytest
import torch

import stylekernels
from stylekernels.ops.style import naive
from stylekernels.ops.style.cpu import narrowed

EPS = torch.finfo(torch.float16).eps
LARGEST = torch.finfo(torch.float16).max


def slope_of(x, target, weight):
    """S / k by the formula in fp64, and s, its scale and the product of both over k."""
    _, s, scale = stylekernels.style_loss_forward(x, target, weight)
    _, exact = naive.style_loss_forward(x.double().cpu(), target.double().cpu(), 1.0)
    found = scale.double()[:, None, None] * s.double() / (weight or 1.0)
    return exact, s, scale, found.cpu()


def error(found, exact):
    return float((found - exact).norm() / exact.norm())


@pytest.mark.parametrize("weight", [1e-30, 1e-6, 1.0, 1e6, 1e30])
def test_s_has_its_precision_at_every_weight(weight, activation):
    x = activation((1, 40, 9, 8), torch.float16)
    exact, s, scale, found = slope_of(x, torch.eye(40, device=x.device), weight)
    assert s.dtype == torch.float16
    assert scale.log2().frac() == 0
    assert error(found, exact) < EPS


def test_s_of_no_weight_is_zero(activation):
    x = activation((1, 24, 9, 8), torch.float16)
    _, s, scale, _ = slope_of(x, torch.eye(24, device=x.device), 0.0)
    assert not s.any()
    assert 0 < scale < float("inf")


def test_s_has_its_precision_near_the_target(activation):
    """Where the elements of S are 2^-10 of the Gram's, from which the kernels take the scale."""
    x = activation((1, 40, 9, 8), torch.float16)
    target = (naive.gram(x.double()) * (1 + 2**-10)).float()
    exact, _, _, found = slope_of(x, target, 1.0)
    assert error(found, exact) < EPS


def test_a_target_far_above_every_gram_does_not_overflow(activation):
    x = activation((1, 40, 9, 8), torch.float16)
    target = 1e9 * torch.eye(40, device=x.device).flip(0)
    exact, s, _, found = slope_of(x, target, 1.0)
    assert s.abs().max() < LARGEST
    assert error(found, exact) < EPS


def test_pictures_of_a_batch_have_scales_of_their_own(activation):
    x = activation((2, 40, 9, 8), torch.float16)
    x[1] *= 2**-8
    exact, s, scale, found = slope_of(x, torch.zeros(40, 40, device=x.device), 1.0)
    assert scale[0] == 2**16 * scale[1]
    assert all(error(*pair) < EPS for pair in zip(found, exact, strict=True))
    assert torch.isfinite(s).all()


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # NumPy, of inf * 0
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_is_not_finite_where_one_feature_is_not(bad, activation):
    """As the run's rollback needs it; the scale itself stays usable."""
    x, above = (activation((1, 40, 9, 8), torch.float16) for _ in range(2))
    x[0, 3, 2, 2] = bad
    x.relu_()
    loss, s, scale = stylekernels.style_loss_forward(x, torch.eye(40, device=x.device), 1.0)
    assert not loss.isfinite()
    assert 0 < scale < float("inf")
    assert s[0, 4, 5:].isfinite().all()
    assert s[0, 4, 5:].any()  # nothing vanished below an infinite bound
    gradient = stylekernels.style_tap_backward(above, x, s, scale)
    assert not gradient[x > 0].isfinite().any()


def test_narrowed_brings_the_largest_finite_element_below_the_largest_of_fp16():
    nan, inf = float("nan"), float("inf")
    s = torch.tensor([[1e-38, 3.0], [nan, inf]])
    for factor in (1e-30, 1.0, 1e30):
        narrow, scale = narrowed(factor * s[None], torch.float16)
        assert 2**14 <= narrow[0, 0, 1] < 2**15
        torch.testing.assert_close(
            narrow[0, 0, 1] * scale[0], torch.tensor(3 * factor), rtol=EPS, atol=0
        )
        assert narrow[0, 1, 0].isnan()
        assert narrow[0, 1, 1] == inf
    zero, scale = narrowed(torch.zeros(1, 2, 2), torch.float16)
    assert not zero.any()
    assert scale == 2**-15


def test_narrowed_leaves_other_dtypes_their_range():
    s = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0)) * 1e30
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        narrow, scale = narrowed(s, dtype)
        assert torch.equal(narrow, s.to(dtype))
        assert (scale == 1).all()


@pytest.mark.parametrize("with_content", [False, True], ids=["style", "style-and-content"])
def test_factors_of_channels_are_those_of_the_features(
    with_content, dtype, activation, no_worse_than
):
    """Loss and gradient of v y, with v [C] given to the kernels."""
    y, above = activation((2, 40, 9, 8), dtype).relu_(), activation((2, 40, 9, 8), dtype)
    v = 2.0 ** (torch.arange(40, device=y.device) % 4 - 3)
    factors = v.view(1, -1, 1, 1)
    target, p = torch.eye(40, device=y.device), activation((2, 40, 9, 8)).relu_()
    c = 0.1 if with_content else 0.0

    def formula(wide, above, content):
        F = wide * factors.to(wide)
        loss, S = naive.style_loss_forward(F, target.to(wide), 0.5)
        dF = naive.style_tap_backward(torch.zeros_like(F), F, S, *content)
        return loss, torch.where(wide <= 0, 0, above + factors.to(wide) * dF)

    loss, *slope = stylekernels.style_loss_forward(y, target, 0.5, v)
    content = p if with_content else None
    gradient = stylekernels.style_tap_backward(above, y, *slope, content, c, v)
    exact = formula(y.double().cpu(), above.double().cpu(), (p.double().cpu(), c))
    plain = formula(y, above, (p.to(dtype), c))
    no_worse_than(loss, plain[0].float(), exact[0], ulps=16)
    no_worse_than(gradient, plain[1], exact[1])
