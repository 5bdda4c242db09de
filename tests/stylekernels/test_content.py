import pytest
import torch

import stylekernels


def plain_content(x, target, weight):
    return weight * (x - target.to(x.dtype)).square().sum()


def compare(x, target, no_worse_than):
    results = []
    for loss_of, given in (
        (stylekernels.content_loss, x),
        (plain_content, x),
        (plain_content, x.detach().double().cpu().requires_grad_()),
    ):
        loss = loss_of(given, target.to(given.device, target.dtype), 0.5)
        results.append((loss, *torch.autograd.grad(3.0 * loss, given)))
    found, plain, oracle = results
    no_worse_than(found[0], plain[0], oracle[0], ulps=16)
    no_worse_than(found[1], plain[1], oracle[1])


@pytest.mark.parametrize("shape", [(1, 64, 21, 33), (2, 5, 7, 9), (1, 1, 1, 1)], ids=str)
def test_content_loss_errs_no_more_than_autograd(shape, dtype, activation, no_worse_than):
    # small enough that the plain sum stays within fp16
    x = (activation(shape, dtype) * 0.125).requires_grad_()
    compare(x, activation(shape) * 0.125, no_worse_than)


def test_content_loss_reads_every_layout(layout, activation, no_worse_than):
    x = activation((2, 6, 7, 9), torch.float32, layout).requires_grad_()
    compare(x, activation((2, 6, 7, 9)), no_worse_than)


def test_content_gradient_is_added_in_place(layout, activation, no_worse_than):
    x, target = activation((2, 6, 7, 9)), activation((2, 6, 7, 9), torch.float32, "contiguous")
    grad = activation((2, 6, 7, 9), torch.float32, layout)
    oracle = grad.double() + 2 * 0.5 * (x.double() - target.double())
    stylekernels.content_loss_backward_(grad, x, target, 0.5)
    no_worse_than(grad, oracle.float(), oracle, ulps=2)


def test_content_loss_has_the_same_bits_every_time(activation):
    x, target = activation((1, 64, 33, 41)), activation((1, 64, 33, 41))
    first = stylekernels.content_loss(x, target, 1.0)
    assert torch.equal(first, stylekernels.content_loss(x, target, 1.0))


def test_content_loss_propagates_nan(activation):
    x = activation((1, 4, 5, 6))
    x[0, 1, 2, 3] = float("nan")
    assert stylekernels.content_loss(x, torch.zeros_like(x), 1.0).isnan()


def test_content_loss_refuses_a_target_of_another_shape(device):
    x = torch.zeros(1, 4, 3, 3, device=device)
    with pytest.raises(ValueError, match=r"target must be \(1, 4, 3, 3\), got \(1, 4, 3, 4\)"):
        stylekernels.content_loss(x, torch.zeros(1, 4, 3, 4, device=device), 1.0)


def test_content_loss_second_derivative_raises(activation):
    x = activation((1, 4, 3, 3)).requires_grad_()
    loss = stylekernels.content_loss(x, torch.zeros_like(x), 1.0)
    (first,) = torch.autograd.grad(loss, x, create_graph=True)
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        first.sum().backward()
