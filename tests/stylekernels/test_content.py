import pytest
import torch

import stylekernels
from stylekernels.ops.pointwise import naive


@pytest.mark.parametrize("shape", [(1, 64, 21, 33), (2, 5, 7, 9), (1, 1, 1, 1)], ids=str)
def test_content_loss_errs_no_more_than_autograd(shape, dtype, activation, no_worse_than):
    # small enough that the plain sum stays within fp16
    x, target = (activation(shape, dtype) * 0.125).requires_grad_(), activation(shape) * 0.125
    wide = x.detach().double().cpu().requires_grad_()
    results = []
    for loss_of, leaf, goal in (
        (stylekernels.content_loss, x, target),
        (naive.content_loss, x, target.to(dtype)),
        (naive.content_loss, wide, target.double().cpu()),
    ):
        loss = loss_of(leaf, goal, 0.5)
        results.append((loss, *torch.autograd.grad(3.0 * loss, leaf)))
    found, plain, oracle = results
    no_worse_than(found[0], plain[0], oracle[0], ulps=16)
    no_worse_than(found[1], plain[1], oracle[1])


def test_content_gradient_is_added_in_place(layout, activation, no_worse_than):
    x, target = activation((2, 6, 7, 9)), activation((2, 6, 7, 9), torch.float32, "contiguous")
    grad = activation((2, 6, 7, 9), torch.float32, layout)
    oracle = grad.double() + naive.content_loss_backward(x.double(), target.double(), 0.5)
    stylekernels.content_loss_backward_(grad, x, target, 0.5)
    no_worse_than(grad, oracle.float(), oracle, ulps=2)


def test_content_loss_of_channels_with_factors_is_that_of_their_multiples(
    layout, dtype, activation, no_worse_than
):
    shape = (2, 6, 7, 9)
    x, target, grad = (activation(shape, kind, layout) for kind in (dtype, torch.float32, dtype))
    v = 2.0 ** (torch.arange(6, device=x.device) - 5)
    factors = v.view(1, -1, 1, 1)
    multiples, wide = (x * factors).to(dtype), (x * factors).double()
    loss = stylekernels.content_loss(x, target, 0.5, v)
    exact, plain = (naive.content_loss(F, target.to(F), 0.5) for F in (wide, multiples))
    no_worse_than(loss, plain.float(), exact, ulps=16)
    exact = grad + factors * naive.content_loss_backward(wide, target.double(), 0.5)
    plain = grad + factors * naive.content_loss_backward(multiples, target.to(dtype), 0.5)
    stylekernels.content_loss_backward_(grad, x, target, 0.5, v)
    no_worse_than(grad, plain.to(dtype), exact)


@pytest.mark.parametrize("factors", [False, True], ids=["plain", "factors"])
def test_a_gradient_behind_a_relu_is_that_without_masked(factors, layout, dtype, activation):
    """In one pass, to the bit."""
    shape = (2, 6, 7, 9)
    x, target = activation(shape, dtype).relu_(), activation(shape)
    x[0, 1, 2, 3] = float("nan")  # as torch's own, the mask lets it pass
    grad = activation(shape, dtype, layout)
    v = 2.0 ** (torch.arange(6, device=x.device) - 5) if factors else None
    expected = grad.clone()
    stylekernels.content_loss_backward_(expected, x, target, 0.5, v)
    stylekernels.content_loss_backward_(grad, x, target, 0.5, v, True)
    torch.testing.assert_close(grad, naive.mask(expected, x), rtol=0, atol=0, equal_nan=True)
    assert (grad == 0).any()


def test_factors_that_are_not_one_a_channel_are_refused(device):
    x, factors = torch.zeros(1, 4, 3, 3, device=device), torch.ones(3, device=device)
    with pytest.raises(ValueError, match=r"channel_scale must be \[4\], got \[3\]"):
        stylekernels.content_loss(x, x, 1.0, factors)
    with pytest.raises(ValueError, match=r"channel_scale must be \[4\], got \[3\]"):
        stylekernels.style_loss_forward(x, torch.eye(4, device=device), 1.0, factors)


def test_content_loss_refuses_a_target_of_another_shape(device):
    x = torch.zeros(1, 4, 3, 3, device=device)
    with pytest.raises(ValueError, match=r"target must be \(1, 4, 3, 3\), got \(1, 4, 3, 4\)"):
        stylekernels.content_loss(x, torch.zeros(1, 4, 3, 4, device=device), 1.0)
