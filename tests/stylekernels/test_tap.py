from math import prod

import pytest
import torch

import stylekernels


def plain_tap(z, target, weight, content=None, content_weight=0.0):
    y = torch.relu(z)
    rows = y.flatten(2)
    gram = rows @ rows.mT / prod(z.shape[2:])
    loss = weight * (gram - target.to(gram.dtype)).square().sum()
    if content is not None:
        loss = loss + content_weight * (y - content.to(y.dtype)).square().sum()
    return y, loss


def targets_for(z):
    """A Gram and a content target of the size that those of relu(z) have."""
    generator = torch.Generator().manual_seed(5)
    picture = torch.randn(z.shape[1], 500, generator=generator).relu()
    content = torch.randn(z.shape, generator=generator).relu().to(z.device)
    fmt = torch.contiguous_format if z.is_contiguous() else torch.channels_last
    return (picture @ picture.T / 500).to(z.device), content.contiguous(memory_format=fmt)


def run(tap, z, above, *arguments):
    y, loss = tap(z, *arguments)
    (gradient,) = torch.autograd.grad((y * above).sum() + 2.0 * loss, z)
    return y, loss, gradient


def check(z, above, arguments, no_worse_than):
    found = run(stylekernels.style_tap, z, above, *arguments)
    plain = run(plain_tap, z, above, *arguments)
    wide = z.detach().double().cpu().requires_grad_()
    wide_arguments = [a.double().cpu() if isinstance(a, torch.Tensor) else a for a in arguments]
    oracle = run(plain_tap, wide, above.double().cpu(), *wide_arguments)
    assert torch.equal(found[0], plain[0])
    no_worse_than(found[1], plain[1], oracle[1], ulps=16)
    no_worse_than(found[2], plain[2], oracle[2])


@pytest.mark.parametrize("with_content", [False, True], ids=["style", "style-and-content"])
@pytest.mark.parametrize("shape", [(1, 64, 13, 21), (2, 130, 5, 6), (1, 24, 1, 1)], ids=str)
def test_style_tap_errs_no_more_than_autograd(
    shape, with_content, dtype, activation, no_worse_than
):
    z = activation(shape, dtype).requires_grad_()
    target, content = targets_for(z)
    arguments = (target, 0.5, content, 0.1) if with_content else (target, 0.5)
    check(z, activation(shape, dtype), arguments, no_worse_than)


def test_style_tap_reads_every_layout(layout, activation, no_worse_than):
    z = activation((2, 24, 6, 7), torch.float32, layout).requires_grad_()
    target, content = targets_for(z)
    above = activation((2, 24, 6, 7), torch.float32, "contiguous")
    check(z, above, (target, 0.5, content, 0.1), no_worse_than)


# relu1_1 .. relu5_1 of a square picture; 300 px gives odd sizes from the third layer on
VGG = [(64, 1), (128, 2), (256, 4), (512, 8), (512, 16)]


@pytest.mark.parametrize(("size", "kind"), [(64, torch.float32), (300, torch.float16)], ids=str)
@pytest.mark.parametrize(("channels", "factor"), VGG, ids=[f"relu{i}_1" for i in range(1, 6)])
def test_style_tap_is_right_at_every_vgg_shape(
    channels, factor, size, kind, activation, no_worse_than, large_blocks
):
    shape = (1, channels, size // factor, size // factor)
    z = activation(shape, kind)
    target, _ = targets_for(z)
    weight = 1e2 / channels**2
    y, losses, s = stylekernels.style_tap_forward(z, target, weight)
    gradient = stylekernels.style_tap_backward(z, y, s)
    wide = z.double().cpu().requires_grad_()
    oracle = run(plain_tap, wide, wide.detach(), target.double().cpu(), weight)
    loss = oracle[1].detach()
    wide_gradient = torch.autograd.grad(
        (torch.relu(wide) * wide.detach()).sum()
        + plain_tap(wide, target.double().cpu(), weight)[1],
        wide,
    )[0]
    no_worse_than(losses[0], loss.float(), loss, ulps=16)
    no_worse_than(gradient, wide_gradient.to(kind), wide_gradient, ulps=8)


def test_style_tap_in_place_gives_the_same_bits(layout, activation):
    z = activation((2, 70, 6, 7), torch.float32, layout)  # more than one tile: they read in turn
    target, content = targets_for(z)
    above = activation((2, 70, 6, 7), torch.float32, layout)
    y, losses, s = stylekernels.style_tap_forward(z, target, 0.5, content, 0.1)
    expected = stylekernels.style_tap_backward(above, y, s, None, content, 0.1)
    losses_, s_ = stylekernels.style_tap_forward_(z, target, 0.5, content, 0.1)
    assert torch.equal(z, y)
    assert torch.equal(losses, losses_)
    assert torch.equal(s, s_)
    stylekernels.style_tap_backward_(above, z, s_, content, 0.1)
    assert torch.equal(above, expected)


def test_style_tap_has_the_same_bits_every_time(activation):
    z = activation((1, 130, 17, 9), torch.float16)
    target, _ = targets_for(z)
    first = stylekernels.style_tap_forward(z, target, 1.0)
    again = stylekernels.style_tap_forward(z, target, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_style_tap_masks_and_propagates_as_relu_does(activation):
    z = activation((1, 20, 6, 5))
    z[0, 3, 2, 2] = float("nan")
    z[0, 5, 1, 1] = -1.0
    target, _ = targets_for(z)
    y, loss = stylekernels.style_tap(z, target, 1.0)
    assert y[0, 3, 2, 2].isnan()
    assert loss.isnan()
    above = torch.full_like(z, float("inf"))
    s = torch.zeros((1, 20, 20), device=z.device)
    gradient = stylekernels.style_tap_backward(above, torch.relu(z), s)
    assert gradient[0, 5, 1, 1] == 0  # a product with the mask would give inf * 0 = nan
    plain = torch.ops.aten.threshold_backward(above, torch.relu(z), 0)
    assert torch.equal(gradient.isinf() | gradient.isnan(), plain.isinf())


def test_style_tap_refuses_a_content_target_that_does_not_fit(device):
    z, target = torch.zeros(1, 4, 3, 3, device=device), torch.zeros(4, 4, device=device)
    with pytest.raises(ValueError, match=r"content must be \(1, 4, 3, 3\), got \(1, 4, 3, 4\)"):
        stylekernels.style_tap(z, target, 1.0, torch.zeros(1, 4, 3, 4, device=device), 1.0)


def test_style_tap_second_derivative_raises(activation):
    z = activation((1, 4, 3, 3)).requires_grad_()
    target, _ = targets_for(z)
    y, loss = stylekernels.style_tap(z, target, 1.0)
    (first,) = torch.autograd.grad(loss + y.sum(), z, create_graph=True)
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        first.sum().backward()
