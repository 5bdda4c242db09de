from math import prod

import pytest
import torch

import stylekernels


def plain_style(x, target, weight):
    rows = x.flatten(2)
    gram = rows @ rows.mT / prod(x.shape[2:])
    return weight * (gram - target.to(gram.dtype)).square().sum()


def gram_like(x):
    """A target of the size that Grams of `x` have, and symmetric as they are."""
    picture = torch.randn(x.shape[1], 500, generator=torch.Generator().manual_seed(5))
    return (picture @ picture.T / 500).to(x.device)


def gradients(loss, x):
    (gradient,) = torch.autograd.grad(loss, x)
    return loss, gradient


@pytest.mark.parametrize("shape", [(1, 64, 13, 21), (2, 130, 5, 6), (1, 24, 1, 1)], ids=str)
def test_style_loss_and_gradient_err_no_more_than_autograd(shape, dtype, activation, no_worse_than):
    x = activation(shape, dtype).requires_grad_()
    target, weight = gram_like(x), 0.25
    found = gradients(stylekernels.style_loss(x, target, weight), x)
    plain = gradients(plain_style(x, target, weight), x)
    wide = x.detach().double().cpu().requires_grad_()
    oracle = gradients(plain_style(wide, target.double().cpu(), weight), wide)
    assert found[0].dtype == torch.float32
    assert found[0].shape == ()
    no_worse_than(found[0], plain[0], oracle[0], ulps=16)
    no_worse_than(found[1], plain[1], oracle[1])


def test_style_loss_reads_every_layout(layout, activation, no_worse_than):
    x = activation((2, 24, 6, 7), torch.float32, layout).requires_grad_()
    target = gram_like(x)
    found = gradients(stylekernels.style_loss(x, target, 3.0), x)
    plain = gradients(plain_style(x, target, 3.0), x)
    wide = x.detach().double().cpu().requires_grad_()
    oracle = gradients(plain_style(wide, target.double().cpu(), 3.0), wide)
    no_worse_than(found[0], plain[0], oracle[0], ulps=16)
    no_worse_than(found[1], plain[1], oracle[1])


def test_style_loss_takes_one_target_a_picture(activation, no_worse_than):
    x = activation((2, 24, 6, 7))
    targets = torch.stack((gram_like(x), 2 * gram_like(x)))
    both = stylekernels.style_loss(x, targets, 1.0)
    alone = [stylekernels.style_loss(x[i : i + 1], targets[i], 1.0) for i in range(2)]
    no_worse_than(both, sum(alone), sum(a.double() for a in alone), ulps=16)


def test_style_gradient_is_exact_for_a_target_that_is_not_symmetric(activation, no_worse_than):
    x = activation((1, 130, 5, 5)).requires_grad_()
    target = torch.randn(130, 130, generator=torch.Generator().manual_seed(1)).to(x.device)
    _, found = gradients(stylekernels.style_loss(x, target, 1.0), x)
    _, plain = gradients(plain_style(x, target, 1.0), x)
    wide = x.detach().double().cpu().requires_grad_()
    _, oracle = gradients(plain_style(wide, target.double().cpu(), 1.0), wide)
    no_worse_than(found, plain, oracle)


def test_blended_targets_are_one_target_by_linearity(activation, no_worse_than):
    x = activation((1, 24, 6, 7)).requires_grad_()
    a, b = gram_like(x), 3 * gram_like(x).flip(0)
    b = (b + b.T) / 2
    _, blended = gradients(stylekernels.style_loss(x, 0.25 * a + 0.75 * b, 1.0), x)
    two = 0.25 * stylekernels.style_loss(x, a, 1.0) + 0.75 * stylekernels.style_loss(x, b, 1.0)
    _, apart = gradients(two, x)
    no_worse_than(blended, apart, apart.double(), ulps=8)


def test_style_gradient_survives_a_weight_below_half_precision(activation, no_worse_than):
    """S of about 1e-9 is zero in fp16; the gradient, scaled up again by its consumer, is not."""
    x = activation((1, 32, 16, 16), torch.float16)
    target = gram_like(x)
    _, s = stylekernels.style_loss_forward(x, target, 1e-6)
    assert s.abs().max() < 1e-7
    scale = torch.tensor(2.0**30, device=x.device)
    found = stylekernels.style_loss_backward(scale, x, s)
    wide = x.double().cpu().requires_grad_()
    _, oracle = gradients(plain_style(wide, target.double().cpu(), 1e-6 * 2.0**30), wide)
    no_worse_than(found, oracle.half(), oracle)


def test_style_loss_has_the_same_bits_every_time(activation, symmetric):
    x = activation((1, 130, 17, 9), torch.float16)
    first = stylekernels.style_loss_forward(x, gram_like(x), 1.0)
    again = stylekernels.style_loss_forward(x, gram_like(x), 1.0)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert symmetric(first[1])


def test_style_loss_propagates_nan(activation):
    x = activation((1, 20, 6, 5))
    x[0, 3, 2, 2] = float("nan")
    loss, s = stylekernels.style_loss_forward(x, gram_like(x), 1.0)
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


def test_style_loss_has_no_gradient_for_its_target(device):
    x = torch.ones(1, 4, 3, 3, device=device)
    target = torch.zeros(4, 4, device=device, requires_grad=True)
    with pytest.raises(NotImplementedError, match="no gradient for its target"):
        stylekernels.style_loss(x, target, 1.0).backward()


def test_style_loss_second_derivative_raises(activation):
    x = activation((1, 4, 3, 3)).requires_grad_()
    loss = stylekernels.style_loss(x, gram_like(x), 1.0)
    (first,) = torch.autograd.grad(loss, x, create_graph=True)
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        first.sum().backward()


def test_style_losses_of_a_group_are_those_of_the_layers(dtype, activation, no_worse_than):
    xs = [
        activation((1, c, s, s + 1), dtype).requires_grad_()
        for c, s in ((64, 20), (24, 9), (130, 5))
    ]
    targets, weights = [gram_like(x) for x in xs], [0.5, 2.0, 1.0]
    found = stylekernels.style_losses(xs, targets, weights)
    factors = torch.tensor([1.0, 0.5, 3.0], device=found.device)
    found_gradients = torch.autograd.grad((found * factors).sum(), xs)
    assert found.shape == (3,)
    for i, (x, target) in enumerate(zip(xs, targets, strict=True)):
        plain = gradients(plain_style(x, target, weights[i]) * factors[i], x)
        wide = x.detach().double().cpu().requires_grad_()
        oracle = gradients(
            plain_style(wide, target.double().cpu(), weights[i]) * factors[i].double().cpu(), wide
        )
        no_worse_than(found[i] * factors[i], plain[0], oracle[0], ulps=16)
        no_worse_than(found_gradients[i], plain[1], oracle[1])


def test_style_losses_take_layers_of_mixed_layouts(activation, no_worse_than):
    xs = [
        activation((1, 24, 6, 7), torch.float32, layout)
        for layout in ("contiguous", "channels-last", "sliced", "permuted")
    ]
    targets = [gram_like(x) for x in xs]
    losses, s = stylekernels.style_losses_forward(xs, targets, [1.0] * 4)
    factors = torch.ones(4, device=losses.device)
    found = stylekernels.style_losses_backward(factors, xs, s)
    for x, target, loss, gradient in zip(xs, targets, losses, found, strict=True):
        wide = x.double().cpu().requires_grad_()
        oracle = gradients(plain_style(wide, target.double().cpu(), 1.0), wide)
        no_worse_than(loss, oracle[0].float(), oracle[0], ulps=16)
        no_worse_than(gradient, oracle[1].float(), oracle[1], ulps=8)


def test_style_losses_refuse_lists_that_do_not_match(device):
    x, target = torch.zeros(1, 4, 3, 3, device=device), torch.zeros(4, 4, device=device)
    with pytest.raises(ValueError, match="2 layers, 1 targets, 2 weights"):
        stylekernels.style_losses([x, x], [target], [1.0, 1.0])
    with pytest.raises(ValueError, match="0 layers"):
        stylekernels.style_losses([], [], [])
    with pytest.raises(TypeError, match="share a dtype"):
        stylekernels.style_losses([x, x.half()], [target, target], [1.0, 1.0])
