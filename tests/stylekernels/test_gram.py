import pytest
import torch

import stylekernels
from stylekernels.ops.style import naive
from stylekernels.runtime import dispatch
from stylekernels.runtime.config import GramConfig


def strongest_gram(x):
    """The strongest plain formulation: one batched product that scales as it adds."""
    rows = x.flatten(2)
    zero = rows.new_zeros((x.shape[0], x.shape[1], x.shape[1]))
    return torch.baddbmm(zero, rows, rows.mT, beta=0, alpha=1 / rows.shape[2])


# odd sizes, M no multiple of a block, one position, fewer channels than a block, B > 1
SHAPES = [(1, 64, 21, 33), (2, 40, 7, 9), (1, 130, 12, 11), (1, 3, 50, 41), (2, 64, 1, 1)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gram_errs_no_more_than_plain_torch(shape, dtype, activation, no_worse_than):
    # Several draws: of nine numbers, the error of one draw is luck, up to twofold either way.
    draws = [activation(shape, dtype) for _ in range(5)]
    grams = [stylekernels.gram(x) for x in draws]
    assert all(gram.dtype == torch.float32 and gram.is_contiguous() for gram in grams)
    plain = [strongest_gram(x) for x in draws]
    no_worse_than(grams, plain, [naive.gram(x.double().cpu()) for x in draws])


def test_gram_gradient_errs_no_more_than_autograd(dtype, activation, no_worse_than):
    x = activation((2, 40, 9, 7), dtype).requires_grad_()
    upstream = torch.randn(2, 40, 40, generator=torch.Generator().manual_seed(3)).to(x.device)
    (gradient,) = torch.autograd.grad(stylekernels.gram(x), x, upstream)
    (plain,) = torch.autograd.grad(strongest_gram(x), x, upstream.to(dtype))
    wide = x.detach().double().cpu().requires_grad_()
    (oracle,) = torch.autograd.grad(naive.gram(wide), wide, upstream.double().cpu())
    assert gradient.dtype == dtype
    no_worse_than(gradient, plain, oracle)


@pytest.mark.parametrize("one_load", [True, False])
@pytest.mark.parametrize("block_c", [32, 64])
def test_every_configuration_of_a_gram_is_right(
    one_load, block_c, layout, activation, no_worse_than
):
    x = activation((2, 40, 9, 7), torch.float16, layout)
    if not dispatch.uses_triton(x):
        pytest.skip("plain torch has no configurations")
    from stylekernels.ops.style.triton_launches import forward_launches
    from stylekernels.runtime.launch import run_all

    gram = x.new_empty(2, 40, 40, dtype=torch.float32)
    run_all(forward_launches(x, gram, config=GramConfig(4, 2, 16, block_c, 3, one_load)))
    no_worse_than(gram, strongest_gram(x), naive.gram(x.double().cpu()))


def test_gram_is_symmetric(activation, symmetric):
    assert symmetric(stylekernels.gram(activation((1, 130, 33, 17))))


def test_every_entry_of_a_channel_with_nan_is_nan(activation):
    x = activation((1, 20, 6, 5))
    x[0, 3, 2, 2] = float("nan")
    assert not stylekernels.gram(x)[0, 3].isfinite().any()


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


def test_gram_of_fp64_is_the_formula_itself(device):
    x = torch.randn(1, 6, 5, 4, dtype=torch.float64, device=device, requires_grad=True)
    gram = stylekernels.gram(x)
    assert gram.dtype == torch.float64
    torch.testing.assert_close(gram, naive.gram(x), rtol=1e-14, atol=1e-14)
    assert torch.autograd.gradcheck(stylekernels.gram, x)
