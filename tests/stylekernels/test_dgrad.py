"""The gradient of a convolution's input, for the few channels of an image."""

import pytest
import torch
from torch.nn.functional import conv_transpose2d

import stylekernels as sk
from stylekernels.ops.dgrad import naive
from stylekernels.ops.style.naive import style_tap_backward
from stylekernels.runtime import config
from stylekernels.runtime.config import DgradConfig, Gpu, TapDgradConfig

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


def tap(shape, dtype, activation, layout="channels-last"):
    """(gradient from above, y = relu(z), S symmetric) of a tap."""
    above, y = activation(shape, dtype, layout), activation(shape, dtype, layout).relu_()
    square = (shape[0], shape[1], shape[1])
    s = torch.randn(square, generator=torch.Generator().manual_seed(6)).to(y.device)
    return above, y, (s + s.mT).to(dtype) / shape[1]


def behind_tap(*operands):
    """(Plain torch's result, the oracle's) of gradient from above, y, S and weights."""
    *gradients, weight = operands
    plain = conv_transpose2d(style_tap_backward(*gradients), weight, padding=1)
    return plain, naive.tap_dgrad(*(operand.double().cpu() for operand in operands))


@pytest.mark.parametrize("shape", [*SHAPES, (1, 64, 70, 1), (1, 72, 3, 5)], ids=str)
def test_the_gradient_behind_a_tap_is_as_exact_as_torchs(
    shape, dtype, activation, kernels, no_worse_than
):
    above, y, s = tap(shape, dtype, activation)
    weight = kernels(shape[1], 3, dtype)
    result = sk.tap_dgrad(above, y, s, weight)
    assert (result.dtype, result.is_contiguous()) == (dtype, True)
    no_worse_than(result, *behind_tap(above, y, s, weight))


def test_scales_of_a_tap_and_its_channels_are_factors(activation, kernels, no_worse_than):
    above, y, s = tap((2, 64, 7, 9), torch.float16, activation)
    weight = kernels(64, 3, torch.float16)
    scale, v = (2.0 ** torch.arange(n, device=y.device).float().fmod(3) for n in (2, 64))
    result = sk.tap_dgrad(above, y, s, weight, 0.25 * scale, v, 0.5, torch.float32)
    assert result.dtype == torch.float32
    whole = (0.25 * scale[:, None, None] * v[:, None] * s).half()  # powers of two round nothing
    plain, exact = behind_tap(above, y, whole, weight)
    no_worse_than(result, 0.5 * plain.float(), 0.5 * exact)


def test_a_tap_of_every_layout_is_read(layout, activation, kernels, no_worse_than):
    above, y, s = tap((2, 64, 6, 9), torch.float16, activation, layout)
    weight = kernels(64, 3, torch.float16)
    for g in (above, above.contiguous(memory_format=torch.channels_last)):
        no_worse_than(sk.tap_dgrad(g, y, s, weight), *behind_tap(g, y, s, weight))


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


@pytest.mark.parametrize(("rows", "block_w"), [(1, 32), (16, 16)])
def test_nor_is_one_behind_a_tap(rows, block_w, activation, kernels, no_worse_than, monkeypatch):
    above, y, s = tap((1, 64, 11, 37), torch.float16, activation)
    weight = kernels(64, 3, torch.float16)
    row = config.as_row(TapDgradConfig(4, 2, block_w, rows), torch.float16, 64, 11 * 37)
    monkeypatch.setattr(config, "measured", lambda name: (row,))
    no_worse_than(sk.tap_dgrad(above, y, s, weight), *behind_tap(above, y, s, weight))


def test_the_same_bits_come_out_every_time(dtype, activation, kernels):
    gradient, weight = activation((1, 64, 9, 70), dtype), kernels(64, 3, dtype)
    assert torch.equal(sk.dgrad(gradient, weight), sk.dgrad(gradient, weight))
    operands = *tap((1, 64, 9, 70), dtype, activation), weight
    assert torch.equal(sk.tap_dgrad(*operands), sk.tap_dgrad(*operands))


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # NumPy's matmul
def test_nan_reaches_its_neighbors_and_no_other_pixel(activation, kernels):
    gradient, weight = activation((1, 64, 6, 8)), kernels(64, 3, torch.float32)
    gradient[0, 7, 2, 5] = float("nan")
    lost = sk.dgrad(gradient, weight).isnan()
    assert lost[:, :, 1:4, 4:7].all()
    assert lost.sum() == 27


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # NumPy's matmul
def test_a_tap_masks_what_is_infinite_and_lets_nan_through(activation, kernels):
    above, y, s = tap((1, 64, 6, 8), torch.float16, activation)
    weight = kernels(64, 3, torch.float16)
    y[0, 7, 2, 5] = 0.0
    above[0, 7, 2, 5] = float("inf")
    assert sk.tap_dgrad(above, y, s, weight).isfinite().all()
    y[0, 7, 2, 5] = float("nan")
    lost = sk.tap_dgrad(above, y, s, weight).isnan()
    assert lost[:, :, 1:4, 4:7].all()
    assert lost.sum() == 27


@pytest.mark.parametrize("kind", [DgradConfig, TapDgradConfig])
@pytest.mark.parametrize("positions", [1, 64 * 64, 512 * 512, 4096 * 4096])
def test_a_default_keeps_a_gpu_busy_and_fits_it(positions, kind):
    h100 = Gpu("NVIDIA H100", 90, 132, 227 << 10)
    blocks = kind.default(torch.float16, 64, positions, h100)
    assert 2 <= blocks.rows <= 16
    assert 3 * blocks.num_stages * kind.maps * blocks.block_w * 64 * 2 <= h100.shared_memory


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


def test_taps_that_do_not_fit_are_refused(activation, kernels):
    above, y, s = tap((2, 64, 4, 4), torch.float16, activation)
    weight = kernels(64, 3, torch.float16)
    with pytest.raises(TypeError, match=r"y must be torch.float16 .* got torch.float32"):
        sk.tap_dgrad(above, y.float(), s, weight)
    with pytest.raises(ValueError, match=r"y must be \(2, 64, 4, 4\), got \(2, 64, 4, 3\)"):
        sk.tap_dgrad(above, y[..., :3], s, weight)
    with pytest.raises(ValueError, match=r"s must be \[2, 64, 64\], got \[64, 64\]"):
        sk.tap_dgrad(above, y, s[0], weight)
    with pytest.raises(ValueError, match=r"channel_scale must be \[64\], got \[3\]"):
        sk.tap_dgrad(above, y, s, weight, None, y.new_ones(3))
    with pytest.raises(ValueError, match=r"weight must be \[64, C, 3, 3\]"):
        sk.tap_dgrad(above, y, s, kernels(32, 3, torch.float16))
