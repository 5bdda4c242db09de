import pytest
import torch

import stylekernels
from stylekernels.ops.tv import naive

kinds = pytest.mark.parametrize("kind", ["l1", "l2"])


@kinds
@pytest.mark.parametrize("shape", [(1, 3, 21, 33), (2, 4, 1, 9), (1, 1, 5, 1)], ids=str)
def test_tv_loss_errs_no_more_than_autograd(kind, shape, dtype, activation, no_worse_than):
    x = activation(shape, dtype).requires_grad_()
    results = []
    for loss_of, leaf in (
        (stylekernels.tv_loss, x),
        (naive.tv_loss, x),
        (naive.tv_loss, x.detach().double().cpu().requires_grad_()),
    ):
        loss = loss_of(leaf, 0.5, kind)
        results.append((loss, *torch.autograd.grad(3.0 * loss, leaf)))
    found, plain, oracle = results
    no_worse_than(found[0], plain[0], oracle[0], ulps=16)
    no_worse_than(found[1], plain[1], oracle[1])


@kinds
def test_tv_gradient_is_added_in_place(kind, layout, activation, no_worse_than):
    x = activation((2, 3, 7, 9)).requires_grad_()
    grad = activation((2, 3, 7, 9), torch.float32, layout)
    (own,) = torch.autograd.grad(naive.tv_loss(x.double(), 0.5, kind), x)
    oracle = grad.double() + own.double()
    stylekernels.tv_loss_backward_(grad, x.detach(), 0.5, kind)
    no_worse_than(grad, oracle.float(), oracle, ulps=2)


def test_the_slope_of_a_flat_image_is_zero(device):
    x = torch.full((1, 3, 4, 5), 0.7, device=device, requires_grad=True)
    (gradient,) = torch.autograd.grad(stylekernels.tv_loss(x, 1.0, "l1"), x)
    assert (gradient == 0).all()


def test_tv_loss_refuses_an_unknown_kind(device):
    with pytest.raises(ValueError, match="'l1' or 'l2', got 'l3'"):
        stylekernels.tv_loss(torch.zeros(1, 3, 4, 4, device=device), 1.0, "l3")
