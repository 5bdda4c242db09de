"""The gradient of a convolution's input, for the few channels of an image."""

import pytest
import torch
from torch.nn.functional import conv_transpose2d

import stylekernels as sk
from stylekernels.ops.dgrad import naive
from stylekernels.runtime import config
from stylekernels.runtime.config import DgradConfig, Gpu

SHAPES = [(1, 64, 4, 64), (2, 64, 7, 67), (1, 64, 1, 1), (1, 20, 5, 3), (1, 64, 5, 130)]


@pytest.fixture
def kernels(device):
    """Makes the weights [K, C, 3, 3] of a convolution, as torch lays them out or channels-last."""
    generator = torch.Generator().manual_seed(5)

    def make(outputs, inputs, dtype, memory_format=torch.contiguous_format):
        weight = torch.randn((outputs, inputs, 3, 3), generator=generator)
        return weight.to(device, dtype).contiguous(memory_format=memory_format)

    return make


def oracle(gradient, weight):
    """Autograd's, in fp64."""
    wide = weight.double().cpu()
    batch, _, height, width = gradient.shape
    x = torch.zeros(batch, weight.shape[1], height, width, dtype=torch.float64, requires_grad=True)
    y = torch.nn.functional.conv2d(x, wide, padding=1)
    return torch.autograd.grad(y, x, gradient.double().cpu())[0]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_gradient_is_as_exact_as_torchs(shape, dtype, activation, kernels, no_worse_than):
    gradient, weight = activation(shape, dtype), kernels(shape[1], 3, dtype)
    plain = conv_transpose2d(gradient, weight, padding=1)
    result = sk.dgrad(gradient, weight)
    assert result.dtype == dtype
    no_worse_than(result, plain, oracle(gradient, weight))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_gradients_of_every_layout_are_read(
    layout, memory_format, activation, kernels, no_worse_than
):
    gradient = activation((2, 64, 6, 9), torch.float32, layout)
    weight = kernels(64, 8, torch.float32, memory_format)[:, :3]
    result = sk.dgrad(gradient, weight)
    plain = conv_transpose2d(gradient, weight, padding=1)
    no_worse_than(result, plain, oracle(gradient, weight))
    assert result.is_contiguous()


@pytest.mark.parametrize("wide", [torch.float32, torch.float64])
def test_an_images_gradient_is_scaled_and_rounded_once(
    wide, dtype, activation, kernels, no_worse_than
):
    gradient, weight = activation((1, 64, 5, 40), dtype), kernels(64, 3, dtype)
    result = sk.dgrad(gradient, weight, 0.3, wide)
    assert (result.dtype, result.is_contiguous()) == (wide, True)
    plain = 0.3 * conv_transpose2d(gradient, weight, padding=1).to(wide)
    no_worse_than(result, plain, 0.3 * oracle(gradient, weight))


def test_the_formula_is_autograds(activation, kernels):
    gradient, weight = activation((2, 5, 4, 6), torch.float64), kernels(5, 3, torch.float64)
    for compute in (naive.dgrad, sk.dgrad):
        assert torch.allclose(compute(gradient, weight).cpu(), oracle(gradient, weight))


@pytest.mark.parametrize(("outputs", "inputs"), [(8, 1), (8, 4), (8, 5), (144, 3)])
def test_other_numbers_of_channels_are_computed_too(
    outputs, inputs, activation, kernels, no_worse_than
):
    gradient = activation((1, outputs, 5, 6))
    weight = kernels(outputs, inputs, torch.float32)
    plain = conv_transpose2d(gradient, weight, padding=1)
    no_worse_than(sk.dgrad(gradient, weight), plain, oracle(gradient, weight))


@pytest.mark.parametrize(("rows", "block_w"), [(1, 32), (3, 16), (16, 64)])
def test_no_pixel_is_lost_where_programs_meet(
    rows, block_w, activation, kernels, no_worse_than, monkeypatch
):
    gradient, weight = activation((1, 64, 11, 37)), kernels(64, 3, torch.float32)
    row = config.as_row(DgradConfig(4, 2, block_w, rows), torch.float32, 64, 11 * 37)
    monkeypatch.setattr(config, "measured", lambda name: (row,))
    plain = conv_transpose2d(gradient, weight, padding=1)
    no_worse_than(sk.dgrad(gradient, weight), plain, oracle(gradient, weight))


def test_the_same_bits_come_out_every_time(dtype, activation, kernels):
    gradient, weight = activation((1, 64, 9, 70), dtype), kernels(64, 3, dtype)
    assert torch.equal(sk.dgrad(gradient, weight), sk.dgrad(gradient, weight))


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # NumPy's matmul
def test_nan_reaches_its_neighbors_and_no_other_pixel(activation, kernels):
    gradient, weight = activation((1, 64, 6, 8)), kernels(64, 3, torch.float32)
    gradient[0, 7, 2, 5] = float("nan")
    lost = sk.dgrad(gradient, weight).isnan()
    assert lost[:, :, 1:4, 4:7].all()
    assert lost.sum() == 27


@pytest.mark.parametrize("positions", [1, 64 * 64, 512 * 512, 4096 * 4096])
def test_a_default_keeps_a_gpu_busy_and_fits_it(positions):
    h100 = Gpu("NVIDIA H100", 90, 132, 227 << 10)
    blocks = DgradConfig.default(torch.float16, 64, positions, h100)
    assert 2 <= blocks.rows <= 16
    assert blocks.num_stages * 3 * blocks.block_w * 64 * 2 <= h100.shared_memory


def test_weights_that_do_not_fit_are_refused(activation, kernels):
    gradient = activation((1, 64, 4, 4))
    with pytest.raises(ValueError, match=r"weight must be \[64, C, 3, 3\], got \[32, 3, 3, 3\]"):
        sk.dgrad(gradient, kernels(32, 3, torch.float32))
    with pytest.raises(TypeError, match=r"weight must be torch.float32 .* got torch.float16"):
        sk.dgrad(gradient, kernels(64, 3, torch.float16))
    with pytest.raises(TypeError, match=r"dtype must be .* got torch.int8"):
        sk.dgrad(gradient, kernels(64, 3, torch.float32), dtype=torch.int8)
    with pytest.raises(ValueError, match="gradient must be"):
        sk.dgrad(gradient[0], kernels(64, 3, torch.float32))
