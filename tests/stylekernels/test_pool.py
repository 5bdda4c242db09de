import pytest
import torch
import torch.nn.functional as F

import stylekernels

POOLS = {
    "average": (stylekernels.relu_avg_pool2d, lambda x: F.avg_pool2d(F.relu(x), 2)),
    "maximum": (stylekernels.relu_max_pool2d, lambda x: F.max_pool2d(F.relu(x), 2)),
}
BACKWARDS = {
    "average": (stylekernels.relu_avg_pool2d_backward, stylekernels.relu_avg_pool2d_backward_),
    "maximum": (stylekernels.relu_max_pool2d_backward, stylekernels.relu_max_pool2d_backward_),
}
which = pytest.mark.parametrize("which", POOLS)


def run(pool, x, above):
    y = pool(x)
    return y, *torch.autograd.grad(y, x, above)


def compare(which, x, above, no_worse_than):
    fused, plain = POOLS[which]
    found, expected = run(fused, x, above), run(plain, x, above)
    wide = x.detach().double().cpu().requires_grad_()
    oracle = run(plain, wide, above.double().cpu())
    for value, naive, truth in zip(found, expected, oracle, strict=True):
        assert value.dtype == x.dtype
        no_worse_than(value, naive, truth)


@which
@pytest.mark.parametrize(
    "shape", [(1, 64, 8, 10), (2, 5, 7, 9), (1, 3, 2, 3), (1, 24, 33, 6)], ids=str
)
def test_relu_pool_errs_no_more_than_autograd(which, shape, dtype, activation, no_worse_than):
    x = activation(shape, dtype).requires_grad_()
    above = activation((*shape[:2], shape[2] // 2, shape[3] // 2), dtype)
    compare(which, x, above, no_worse_than)


@which
def test_relu_pool_reads_every_layout(which, layout, activation, no_worse_than):
    x = activation((2, 6, 7, 9), torch.float32, layout).requires_grad_()
    compare(which, x, activation((2, 6, 3, 4)), no_worse_than)
    pooled = POOLS[which][0](x)
    assert pooled.is_contiguous() or pooled.is_contiguous(memory_format=torch.channels_last)


@which
def test_relu_pool_gradient_in_place_gives_the_same_bits(which, layout, activation):
    x = activation((2, 6, 7, 9), torch.float32, layout)
    above = activation((2, 6, 3, 4))
    fresh, in_place = BACKWARDS[which]
    expected = fresh(above, x)
    in_place(above, x)
    assert torch.equal(x, expected)


@which
def test_relu_pool_in_place_gives_the_same_bits_and_leaves_what_the_backward_takes(
    which, layout, activation
):
    x = activation((2, 6, 7, 9), torch.float32, layout)
    before, expected = x.clone(), POOLS[which][0](x)
    in_place = {"average": stylekernels.relu_avg_pool2d_, "maximum": stylekernels.relu_max_pool2d_}
    assert torch.equal(in_place[which](x), expected)
    assert torch.equal(torch.relu(x), torch.relu(before))


@which
def test_relu_pool_gradient_of_the_activation_is_that_of_what_was_before(which, activation):
    x, above = activation((1, 6, 7, 9)), activation((1, 6, 3, 4))
    fresh, _ = BACKWARDS[which]
    assert torch.equal(fresh(above, x), fresh(above, torch.relu(x)))


def test_of_equal_maxima_the_first_has_the_gradient(device):
    x = torch.tensor([[1.0, 2.0, 3.0, 1.0], [2.0, 2.0, 3.0, 3.0]], device=device)[None, None]
    found = stylekernels.relu_max_pool2d_backward(torch.ones(1, 1, 1, 2, device=device), x)
    expected = [[0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    assert found[0, 0].tolist() == expected


def test_the_edge_that_odd_sizes_leave_out_has_no_gradient(device):
    x = torch.ones(1, 2, 3, 5, device=device)
    found = stylekernels.relu_avg_pool2d_backward(torch.ones(1, 2, 1, 2, device=device), x)
    assert (found[:, :, :2, :4] == 0.25).all()
    assert (found[:, :, 2] == 0).all()
    assert (found[:, :, :, 4] == 0).all()


@which
def test_relu_pool_propagates_what_is_not_finite(which, activation):
    fused, plain = POOLS[which]
    for position in ((0, 0), (0, 1), (1, 0), (1, 1)):
        x = activation((1, 8, 4, 6))
        x[0, 0, position[0], position[1]] = float("nan")
        x[0, 1, position[0], position[1]] = float("inf")
        x[0, 2, position[0], position[1]] = -float("inf")
        x.requires_grad_()
        found, expected = (
            run(pool, x, torch.ones(1, 8, 2, 3, device=x.device)) for pool in (fused, plain)
        )
        for value, naive in zip(found, expected, strict=True):
            assert torch.equal(value.isnan(), naive.isnan())
            assert torch.equal(value.nan_to_num(), naive.nan_to_num())


def test_relu_pool_refuses_what_it_cannot_take(device):
    with pytest.raises(ValueError, match=r"at least 2 x 2 to pool, got \(1, 2, 1, 4\)"):
        stylekernels.relu_avg_pool2d(torch.zeros(1, 2, 1, 4, device=device))
    x = torch.zeros(1, 2, 4, 4, device=device)
    with pytest.raises(ValueError, match=r"grad must be \(1, 2, 2, 2\).*\(1, 2, 4, 4\)"):
        stylekernels.relu_avg_pool2d_backward(x, x)


def test_relu_pool_second_derivative_raises(activation):
    x = activation((1, 4, 4, 4)).requires_grad_()
    (first,) = torch.autograd.grad(stylekernels.relu_avg_pool2d(x).sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        first.sum().backward()
