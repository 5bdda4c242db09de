import pytest
import torch

import stylekernels
from stylekernels.ops.pool import naive

POOLS = {
    "average": (stylekernels.relu_avg_pool2d, naive.relu_avg_pool2d),
    "maximum": (stylekernels.relu_max_pool2d, naive.relu_max_pool2d),
}
PASSES = {
    "average": (stylekernels.relu_avg_pool2d_forward, stylekernels.relu_avg_pool2d_backward),
    "maximum": (stylekernels.relu_max_pool2d_forward, stylekernels.relu_max_pool2d_backward),
}
which = pytest.mark.parametrize("which", POOLS)


def run(pool, x, above):
    y = pool(x)
    return y, *torch.autograd.grad(y, x, above)


@which
@pytest.mark.parametrize(
    "shape", [(1, 64, 8, 10), (2, 5, 7, 9), (1, 3, 2, 3), (1, 24, 33, 6)], ids=str
)
def test_relu_pool_errs_no_more_than_autograd(which, shape, dtype, activation, no_worse_than):
    x = activation(shape, dtype).requires_grad_()
    above = activation((*shape[:2], shape[2] // 2, shape[3] // 2), dtype)
    fused, plain = POOLS[which]
    found, expected = run(fused, x, above), run(plain, x, above)
    wide = x.detach().double().cpu().requires_grad_()
    oracle = run(plain, wide, above.double().cpu())
    for value, yardstick, truth in zip(found, expected, oracle, strict=True):
        assert value.dtype == x.dtype
        no_worse_than(value, yardstick, truth)


@which
def test_the_passes_are_what_autograd_runs(which, layout, activation):
    x = activation((2, 6, 7, 9), torch.float32, layout).requires_grad_()
    above = activation((2, 6, 3, 4))
    y, gradient = run(POOLS[which][0], x, above)
    forward, backward = PASSES[which]
    found, code = forward(x.detach())
    assert torch.equal(found, y)
    assert (code.dtype, code.shape) == (torch.uint8, y.shape)
    assert torch.equal(backward(above, code, 7, 9), gradient)


@which
def test_the_gradient_of_the_activation_is_that_of_what_was_before(which, activation):
    x, above = activation((1, 6, 7, 9)), activation((1, 6, 3, 4))
    forward, backward = PASSES[which]
    codes = [forward(source)[1] for source in (x, torch.relu(x))]
    assert torch.equal(*codes)
    assert backward(above, codes[0], 7, 9).any()


def test_of_equal_maxima_the_first_has_the_gradient(device):
    x = torch.tensor([[1.0, 2.0, 3.0, 1.0], [2.0, 2.0, 3.0, 3.0]], device=device)[None, None]
    _, code = stylekernels.relu_max_pool2d_forward(x)
    assert code.flatten().tolist() == [2, 1]
    above = torch.ones(1, 1, 1, 2, device=device)
    found = stylekernels.relu_max_pool2d_backward(above, code, 2, 4)
    assert found[0, 0].tolist() == [[0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]


def test_the_edge_that_odd_sizes_leave_out_has_no_gradient(device):
    x = torch.ones(1, 2, 3, 5, device=device)
    _, code = stylekernels.relu_avg_pool2d_forward(x)
    assert (code == 15).all()
    found = stylekernels.relu_avg_pool2d_backward(torch.ones(1, 2, 1, 2, device=device), code, 3, 5)
    assert (found[:, :, :2, :4] == 0.25).all()
    assert (found[:, :, 2] == 0).all()
    assert (found[:, :, :, 4] == 0).all()


def test_relu_pool_refuses_what_it_cannot_take(device):
    with pytest.raises(ValueError, match=r"at least 2 x 2 to pool, got \(1, 2, 1, 4\)"):
        stylekernels.relu_avg_pool2d(torch.zeros(1, 2, 1, 4, device=device))
    x = torch.zeros(1, 2, 4, 4, device=device)
    _, code = stylekernels.relu_avg_pool2d_forward(x)
    with pytest.raises(ValueError, match=r"grad must be \(1, 2, 2, 2\), got \(1, 2, 4, 4\)"):
        stylekernels.relu_avg_pool2d_backward(x, code, 4, 4)
    with pytest.raises(ValueError, match=r"code must be uint8 \(1, 2, 3, 2\) for 6 x 4"):
        stylekernels.relu_avg_pool2d_backward(x, code, 6, 4)
    with pytest.raises(ValueError, match=r"as the forward returned it, got torch.float32"):
        stylekernels.relu_avg_pool2d_backward(x, x, 8, 8)
