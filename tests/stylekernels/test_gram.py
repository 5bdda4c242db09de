from math import prod

import pytest
import torch

import stylekernels


def plain_gram(x):
    """The strongest plain formulation: one batched product that scales as it adds."""
    rows = x.flatten(2)
    zero = rows.new_zeros((x.shape[0], x.shape[1], x.shape[1]))
    return torch.baddbmm(zero, rows, rows.mT, beta=0, alpha=1 / prod(x.shape[2:]))


# odd sizes, M no multiple of a block, one position, fewer channels than a block, B > 1
SHAPES = [(1, 64, 21, 33), (2, 40, 7, 9), (1, 130, 12, 11), (1, 3, 50, 41), (2, 64, 1, 1)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gram_errs_no_more_than_plain_torch(shape, dtype, activation, no_worse_than):
    # Several draws: of nine numbers, the error of one draw is luck, up to twofold either way.
    draws = [activation(shape, dtype) for _ in range(5)]
    found = [stylekernels.gram(x) for x in draws]
    assert all(each.dtype == torch.float32 and each.is_contiguous() for each in found)
    plain = [plain_gram(x) for x in draws]
    no_worse_than(found, plain, [plain_gram(x.double().cpu()) for x in draws])


def test_gram_reads_every_layout(layout, activation, no_worse_than):
    x = activation((2, 48, 9, 14), torch.float32, layout)
    no_worse_than(stylekernels.gram(x), plain_gram(x), plain_gram(x.double().cpu()))


def test_gram_gradient_errs_no_more_than_autograd(layout, dtype, activation, no_worse_than):
    x = activation((2, 40, 9, 7), dtype, layout).requires_grad_()
    upstream = torch.randn(2, 40, 40, generator=torch.Generator().manual_seed(3)).to(x.device)
    (found,) = torch.autograd.grad(stylekernels.gram(x), x, upstream)
    (plain,) = torch.autograd.grad(plain_gram(x), x, upstream.to(dtype))
    wide = x.detach().double().cpu().requires_grad_()
    (oracle,) = torch.autograd.grad(plain_gram(wide), wide, upstream.double().cpu())
    assert found.dtype == dtype
    no_worse_than(found, plain, oracle)


def test_gram_is_symmetric_and_has_the_same_bits_every_time(activation, symmetric):
    x = activation((1, 130, 33, 17))
    first = stylekernels.gram(x)
    assert torch.equal(first, stylekernels.gram(x))
    assert symmetric(first)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # NumPy's matmul
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_gram_propagates_what_is_not_finite(value, activation):
    x = activation((1, 20, 6, 5))
    x[0, 3, 2, 2] = value
    found, plain = stylekernels.gram(x), plain_gram(x)
    assert torch.equal(found.isnan(), plain.isnan())
    assert torch.equal(found.isinf(), plain.isinf())
    assert not found[0, 3].isfinite().any()


def test_gram_entries_beyond_half_precision_do_not_overflow(activation):
    x = activation((1, 16, 8, 8), torch.float16) * 1000
    assert stylekernels.gram(x).isfinite().all()
    assert stylekernels.gram(x).max() > 65504


def test_gram_refuses_what_it_cannot_take_and_says_what_it_got():
    with pytest.raises(ValueError, match=r"\[B, C, H, W\].*3 dimensions.*\(2, 3, 4\)"):
        stylekernels.gram(torch.zeros(2, 3, 4))
    with pytest.raises(TypeError, match=r"torch\.int32"):
        stylekernels.gram(torch.zeros(1, 2, 3, 4, dtype=torch.int32))
    with pytest.raises(ValueError, match=r"no elements.*\(1, 2, 0, 4\)"):
        stylekernels.gram(torch.zeros(1, 2, 0, 4))


def test_gram_second_derivative_raises(activation):
    x = activation((1, 4, 3, 3)).requires_grad_()
    (first,) = torch.autograd.grad(stylekernels.gram(x).square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        first.sum().backward()


def test_gram_of_fp64_is_the_oracle_itself(device):
    x = torch.randn(1, 6, 5, 4, dtype=torch.float64, device=device, requires_grad=True)
    assert stylekernels.gram(x).dtype == torch.float64
    assert torch.autograd.gradcheck(stylekernels.gram, x)
