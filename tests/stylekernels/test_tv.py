import pytest
import torch

import stylekernels

kinds = pytest.mark.parametrize("kind", ["l1", "l2"])


def plain_tv(x, weight, kind):
    steps = x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]
    return weight * sum((d.abs() if kind == "l1" else d.square()).sum() for d in steps)


def compare(x, kind, no_worse_than):
    results = []
    for loss_of, given in (
        (stylekernels.tv_loss, x),
        (plain_tv, x),
        (plain_tv, x.detach().double().cpu().requires_grad_()),
    ):
        loss = loss_of(given, 0.5, kind)
        results.append((loss, *torch.autograd.grad(3.0 * loss, given)))
    found, plain, oracle = results
    no_worse_than(found[0], plain[0], oracle[0], ulps=16)
    no_worse_than(found[1], plain[1], oracle[1])


@kinds
@pytest.mark.parametrize("shape", [(1, 3, 21, 33), (2, 4, 1, 9), (1, 1, 5, 1)], ids=str)
def test_tv_loss_errs_no_more_than_autograd(kind, shape, dtype, activation, no_worse_than):
    compare(activation(shape, dtype).requires_grad_(), kind, no_worse_than)


@kinds
def test_tv_loss_reads_every_layout(kind, layout, activation, no_worse_than):
    compare(activation((2, 3, 7, 9), torch.float32, layout).requires_grad_(), kind, no_worse_than)


@kinds
def test_tv_gradient_is_added_in_place(kind, layout, activation, no_worse_than):
    x = activation((2, 3, 7, 9)).requires_grad_()
    grad = activation((2, 3, 7, 9), torch.float32, layout)
    (own,) = torch.autograd.grad(plain_tv(x.double(), 0.5, kind), x)
    oracle = grad.double() + own.double()
    stylekernels.tv_loss_backward_(grad, x.detach(), 0.5, kind)
    no_worse_than(grad, oracle.float(), oracle, ulps=2)


def test_the_slope_of_a_flat_image_is_zero(device):
    x = torch.full((1, 3, 4, 5), 0.7, device=device, requires_grad=True)
    (gradient,) = torch.autograd.grad(stylekernels.tv_loss(x, 1.0, "l1"), x)
    assert (gradient == 0).all()


@kinds
def test_tv_loss_has_the_same_bits_every_time(kind, activation):
    x = activation((1, 3, 65, 77))
    assert torch.equal(stylekernels.tv_loss(x, 1.0, kind), stylekernels.tv_loss(x, 1.0, kind))


@kinds
def test_tv_loss_propagates_nan(kind, activation):
    x = activation((1, 3, 4, 5))
    x[0, 1, 2, 3] = float("nan")
    x.requires_grad_()
    loss = stylekernels.tv_loss(x, 1.0, kind)
    assert loss.isnan()
    (found,) = torch.autograd.grad(loss, x)
    (plain,) = torch.autograd.grad(plain_tv(x, 1.0, kind), x)
    assert torch.equal(found.isnan(), plain.isnan())  # torch's sign(nan) is 0


def test_tv_loss_refuses_an_unknown_kind(device):
    with pytest.raises(ValueError, match="'l1' or 'l2', got 'l3'"):
        stylekernels.tv_loss(torch.zeros(1, 3, 4, 4, device=device), 1.0, "l3")


def test_tv_loss_second_derivative_raises(activation):
    x = activation((1, 3, 4, 4)).requires_grad_()
    (first,) = torch.autograd.grad(stylekernels.tv_loss(x, 1.0, "l2"), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        first.sum().backward()
