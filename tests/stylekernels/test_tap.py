"""The gradient of a tap: from above, of the style loss and of the content loss, behind a ReLU."""

import pytest
import torch

import stylekernels
from stylekernels.ops.style import naive
from stylekernels.runtime import dispatch
from stylekernels.runtime.config import BackwardConfig


def operands(shape, dtype, activation, layout="channels-last"):
    """(gradient from above, y = relu(z), S symmetric, P)."""
    above, y = activation(shape, dtype, layout), activation(shape, dtype, layout).relu_()
    s = torch.randn((shape[0], shape[1], shape[1]), generator=torch.Generator().manual_seed(5)).to(
        y.device
    )
    return above, y, (s + s.mT) / shape[1], activation(shape).relu_()


def exact(above, y, s, *content):
    operands = (above, y, s, *content)
    wide = [t.double().cpu() if isinstance(t, torch.Tensor) else t for t in operands]
    return naive.style_tap_backward(*wide)


@pytest.mark.parametrize("with_content", [False, True], ids=["style", "style-and-content"])
@pytest.mark.parametrize("shape", [(1, 64, 13, 21), (2, 130, 5, 6), (1, 24, 1, 1)], ids=str)
def test_a_tap_errs_no_more_than_plain_torch(shape, with_content, dtype, activation, no_worse_than):
    above, y, s, p = operands(shape, dtype, activation)
    content = (p, 0.1) if with_content else ()
    found = stylekernels.style_tap_backward(above, y, s, None, *content)
    low = [t.to(dtype) if isinstance(t, torch.Tensor) else t for t in content]
    plain = naive.style_tap_backward(above, y, s.to(dtype), *low)
    assert found.dtype == dtype
    no_worse_than(found, plain, exact(above, y, s, *content))


# a program a block; S kept by 1 program, by 3, by more than there are blocks; by columns, by all
BLOCKS = [(16, 0), (128, 1), (128, 3), (128, 99)]


@pytest.mark.parametrize("block_n", [32, 128])
@pytest.mark.parametrize(("block_k", "programs"), BLOCKS)
def test_every_configuration_of_a_tap_is_right(
    block_n, block_k, programs, activation, no_worse_than
):
    above, y, s, _ = operands((2, 70, 9, 7), torch.float16, activation)
    if not dispatch.uses_triton(y):
        pytest.skip("plain torch has no configurations")
    from stylekernels.ops.style.triton_backward import run_backward

    output = torch.empty_like(y)
    config = BackwardConfig(4, 2, 16, block_n, block_k, programs)
    run_backward(y, s, output, relu=True, incoming=above, config=config)
    plain = naive.style_tap_backward(above, y, s.half())
    no_worse_than(output, plain, exact(above, y, s))


def test_a_tap_reads_every_layout(layout, activation, no_worse_than):
    _, y, s, p = operands((2, 24, 6, 7), torch.float32, activation, layout)
    above = activation((2, 24, 6, 7), torch.float32, "contiguous")
    found = stylekernels.style_tap_backward(above, y, s, None, p, 0.1)
    plain = naive.style_tap_backward(above, y, s, p, 0.1)
    no_worse_than(found, plain, exact(above, y, s, p, 0.1))


def test_no_gradient_from_above_is_one_of_zeros(dtype, activation, no_worse_than):
    _, y, s, p = operands((2, 70, 6, 7), dtype, activation)
    found = stylekernels.style_tap_backward(None, y, s, None, p, 0.1)
    zeros = torch.zeros_like(y)
    assert torch.equal(found, stylekernels.style_tap_backward(zeros, y, s, None, p, 0.1))
    plain = naive.style_tap_backward(None, y, s.to(dtype), p.to(dtype), 0.1)
    no_worse_than(found, plain, exact(None, y, s, p, 0.1))


def test_in_place_gives_the_same_bits_every_time(layout, activation):
    # more than one tile: they read in turn
    above, y, s, p = operands((2, 70, 6, 7), torch.float32, activation, layout)
    expected = stylekernels.style_tap_backward(above, y, s, None, p, 0.1)
    assert torch.equal(stylekernels.style_tap_backward(above, y, s, None, p, 0.1), expected)
    stylekernels.style_tap_backward_(above, y, s, None, p, 0.1)
    assert torch.equal(above, expected)


def test_a_tap_masks_as_relu_does(activation):
    above, y, s, _ = operands((1, 20, 6, 5), torch.float32, activation)
    above.fill_(float("inf"))
    y[0, 5, 1, 1] = 0.0
    gradient = stylekernels.style_tap_backward(above, y, torch.zeros_like(s))
    assert gradient[0, 5, 1, 1] == 0  # a product with the mask would give inf * 0 = nan
    plain = torch.ops.aten.threshold_backward(above, y, 0)
    assert torch.equal(gradient.isinf() | gradient.isnan(), plain.isinf())


def test_a_tap_lets_nan_of_the_activation_through(activation):
    above, y, s, _ = operands((1, 20, 6, 5), torch.float32, activation)
    y[0, 3, 2, 2] = float("nan")
    gradient = stylekernels.style_tap_backward(above, y, s)
    assert gradient[0, 3, 2, 2].isnan()
    assert torch.equal(gradient.isnan(), naive.style_tap_backward(above, y, s).isnan())


def test_a_tap_second_derivative_is_refused(activation):
    above, y, s, _ = operands((1, 4, 3, 3), torch.float32, activation)
    gradient = stylekernels.style_tap_backward(above.requires_grad_(), y, s)
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        gradient.sum().backward()
