import pytest
import torch

import stylekernels
from stylekernels.ops.pointwise import naive


@pytest.mark.parametrize("shape", [(1, 64, 11, 13), (2, 5, 7, 9), (1, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("order", ["channels-last", "contiguous"])
def test_bias_and_relu_are_rounded_once(shape, order, dtype, activation):
    x, bias = activation(shape, dtype, order), activation((1, shape[1], 1, 1)).flatten()
    expected = naive.bias_relu(x.float(), bias).to(dtype)
    stylekernels.bias_relu_(x, bias)
    assert torch.equal(x, expected)


def test_bias_and_relu_write_every_layout(layout, activation):
    x, bias = activation((2, 6, 7, 9), torch.float32, layout), torch.linspace(-1, 1, 6)
    bias = bias.to(x.device)
    expected = naive.bias_relu(x, bias)
    stylekernels.bias_relu_(x, bias)
    assert torch.equal(x, expected)


def test_bias_and_relu_propagate_nan(activation):
    x = activation((1, 4, 5, 6))
    x[0, 1, 2, 3] = float("nan")
    stylekernels.bias_relu_(x, torch.zeros(4, device=x.device))
    assert x.isnan().sum() == 1


def test_bias_of_another_length_is_refused(device):
    with pytest.raises(ValueError, match=r"bias must be \[4\], got \[3\]"):
        stylekernels.bias_relu_(
            torch.zeros(1, 4, 2, 2, device=device), torch.zeros(3, device=device)
        )
