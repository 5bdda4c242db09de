import pytest
import torch

import stylekernels
from stylekernels.ops.style import naive


def gram_like(x):
    """A target of the size that Grams of `x` have, and symmetric as they are."""
    picture = torch.randn(x.shape[1], 500, generator=torch.Generator().manual_seed(5))
    return (picture @ picture.T / 500).to(x.device)


def gradients(loss, x):
    (gradient,) = torch.autograd.grad(loss, x)
    return loss, gradient


def exact(x, target, weight):
    """Loss and gradient by the formula in fp64."""
    wide = x.detach().double().cpu().requires_grad_()
    return gradients(naive.style_loss(wide, target.double().cpu(), weight), wide)


@pytest.mark.parametrize("shape", [(1, 64, 13, 21), (2, 130, 5, 6), (1, 24, 1, 1)], ids=str)
def test_style_loss_and_gradient_err_no_more_than_autograd(shape, dtype, activation, no_worse_than):
    x = activation(shape, dtype).requires_grad_()
    target, weight = gram_like(x), 0.25
    found = gradients(stylekernels.style_loss(x, target, weight), x)
    plain = gradients(naive.style_loss(x, target.to(dtype), weight), x)
    oracle = exact(x, target, weight)
    assert found[0].dtype == torch.float32
    assert found[0].shape == ()
    no_worse_than(found[0], plain[0], oracle[0], ulps=16)
    no_worse_than(found[1], plain[1], oracle[1])


def test_style_loss_takes_one_target_a_picture(activation, no_worse_than):
    x = activation((2, 24, 6, 7))
    targets = torch.stack((gram_like(x), 2 * gram_like(x)))
    loss, _ = exact(x, targets, 1.0)
    no_worse_than(stylekernels.style_loss(x, targets, 1.0), loss.float(), loss, ulps=16)


def test_style_gradient_is_exact_for_a_target_that_is_not_symmetric(activation, no_worse_than):
    x = activation((1, 130, 5, 5)).requires_grad_()
    target = torch.randn(130, 130, generator=torch.Generator().manual_seed(1)).to(x.device)
    _, found = gradients(stylekernels.style_loss(x, target, 1.0), x)
    _, plain = gradients(naive.style_loss(x, target, 1.0), x)
    no_worse_than(found, plain, exact(x, target, 1.0)[1])


def test_blended_targets_are_one_target_by_linearity(activation, no_worse_than):
    x = activation((1, 24, 6, 7)).requires_grad_()
    a, b = gram_like(x), 3 * gram_like(x).flip(0)
    b = (b + b.T) / 2
    _, blended = gradients(stylekernels.style_loss(x, 0.25 * a + 0.75 * b, 1.0), x)
    apart = 0.25 * exact(x, a, 1.0)[1] + 0.75 * exact(x, b, 1.0)[1]
    no_worse_than(blended, apart.float(), apart, ulps=8)


def test_style_gradient_survives_a_weight_below_half_precision(activation, no_worse_than):
    """S of about 1e-9 is zero in fp16; the gradient, scaled up again by its consumer, is not."""
    x = activation((1, 32, 16, 16), torch.float16)
    target = gram_like(x)
    _, s, scale = stylekernels.style_loss_forward(x, target, 1e-6)
    assert (s * scale).abs().max() < 1e-7
    up = torch.tensor(2.0**30, device=x.device)
    found = stylekernels.style_loss_backward(up, x, s, scale)
    _, oracle = exact(x, target, 1e-6 * 2.0**30)
    no_worse_than(found, oracle.half(), oracle)


def test_the_slope_is_symmetric_and_has_the_same_bits_every_time(activation, symmetric):
    x = activation((1, 130, 17, 9), torch.float16)
    first = stylekernels.style_loss_forward(x, gram_like(x), 1.0)
    again = stylekernels.style_loss_forward(x, gram_like(x), 1.0)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert symmetric(first[1])


def test_nan_reaches_the_loss_and_its_channels_slope_alone(activation):
    x = activation((1, 20, 6, 5))
    x[0, 3, 2, 2] = float("nan")
    loss, s, _ = stylekernels.style_loss_forward(x, gram_like(x), 1.0)
    assert loss.isnan()
    assert s[0, 3].isnan().all()
    assert s[0, 4, 5:].isfinite().all()


def test_style_loss_refuses_a_target_that_does_not_fit(device):
    x = torch.zeros(1, 4, 3, 3, device=device)
    with pytest.raises(ValueError, match=r"\[4, 4\] or \[1, 4, 4\].*\(5, 5\)"):
        stylekernels.style_loss(x, torch.zeros(5, 5, device=device), 1.0)
    with pytest.raises(ValueError, match=r"on .* as the activation is, got meta"):
        stylekernels.style_loss(x, torch.zeros(4, 4, device="meta"), 1.0)
    with pytest.raises(TypeError, match="target must be a floating tensor"):
        stylekernels.style_loss(x, torch.zeros(4, 4, device=device, dtype=torch.int64), 1.0)


# relu1_1 .. relu5_1 of a square picture; 300 px gives odd sizes from the third layer on
VGG = [(64, 1), (128, 2), (256, 4), (512, 8), (512, 16)]


@pytest.mark.parametrize(("size", "kind"), [(64, torch.float32), (300, torch.float16)], ids=str)
@pytest.mark.parametrize(("channels", "factor"), VGG, ids=[f"relu{i}_1" for i in range(1, 6)])
def test_a_tap_is_right_at_every_vgg_shape(
    channels, factor, size, kind, activation, no_worse_than, large_blocks
):
    """Loss, S and the gradient behind the ReLU, as the fused engine calls them."""
    shape = (1, channels, size // factor, size // factor)
    y, above = activation(shape, kind).relu_(), activation(shape, kind)
    target, weight = gram_like(y), 1e2 / channels**2
    loss, *slope = stylekernels.style_loss_forward(y, target, weight)
    gradient = stylekernels.style_tap_backward(above, y, *slope)
    wide = y.double().cpu()
    exact_loss, exact_s = naive.style_loss_forward(wide, target.double().cpu(), weight)
    exact_gradient = naive.style_tap_backward(above.double().cpu(), wide, exact_s)
    no_worse_than(loss, exact_loss.float(), exact_loss, ulps=16)
    no_worse_than(gradient, exact_gradient.to(kind), exact_gradient, ulps=8)
