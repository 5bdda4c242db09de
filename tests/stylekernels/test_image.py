"""What enters a network, and what its gradient leaves as."""

import os

import pytest
import torch

import stylekernels as sk
from stylekernels.ops.image import naive

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
CASES = {
    "exact": (torch.float32, 1, 4),
    "half": (torch.float16, 2, 8),
    "bare": (torch.float16, 2, 6),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
shapes = pytest.mark.parametrize("shape", [(1, 3, 19, 31), (2, 3, 5, 1), (1, 1, 1, 1)], ids=str)


def picture(shape, device):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(3)) * 60
    return values.to(device)


@cases
@shapes
def test_the_input_is_the_image_bit_for_bit_as_in_plain_torch(case, shape, device):
    image, (dtype, parts, channels) = picture(shape, device), case
    x, check = sk.network_input(image, 2.0**-3, dtype, parts=parts, channels=channels)
    assert torch.equal(x, naive.network_input(image, 2.0**-3, dtype, parts, channels))
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert (check == 0).all()


def test_an_image_of_many_steps_is_written_whole(device, monkeypatch):
    if INTERPRETED:
        from stylekernels.ops.image import triton_image

        monkeypatch.setattr(triton_image, "MOST_PROGRAMS", 2)
    image = picture((1, 3, 40, 37), device)
    x, check = sk.network_input(image, 1.0, torch.float16, parts=2, channels=8)
    assert torch.equal(x, naive.network_input(image, 1.0, torch.float16, 2, 8))
    image[0, 1, 39, 36] = float("nan")
    assert sk.network_input(image, 1.0, torch.float16)[1].sum().isnan()
    assert check.numel() <= 2 or not INTERPRETED


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_two_parts_hold_twice_the_digits(dtype, device):
    image = picture((1, 3, 9, 9), device)
    x, _ = sk.network_input(image, 1.0, dtype, parts=2)
    error = (x[:, :3].double() + x[:, 3:].double() - image.double()).abs().max()
    assert error <= 60 * 4 * torch.finfo(dtype).eps ** 2
    assert (x[:, :3].double() - image.double()).abs().max() > 2 * error


@pytest.mark.filterwarnings("ignore:(overflow|invalid value):RuntimeWarning")  # NumPy's casts
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 700])
def test_a_value_that_is_not_finite_shows_in_the_check(value, place, device):
    image = picture((1, 3, 17, 23), device)
    image.view(-1)[place] = value
    _, check = sk.network_input(image, 0.5, torch.float16, parts=2, channels=8)
    assert check.sum().isnan()
    image.view(-1)[place] = 1e30  # beyond fp16, whose features then are not finite either
    _, check = sk.network_input(image, 0.5, torch.float16, parts=2, channels=8)
    assert (check == 0).all()


def test_an_image_of_any_layout_is_read(layout, activation):
    image = activation((2, 3, 7, 9), torch.float32, layout)
    x, _ = sk.network_input(image, 1.0, torch.float16, parts=2, channels=8)
    assert torch.equal(x, naive.network_input(image, 1.0, torch.float16, 2, 8))


@pytest.mark.parametrize("factor", [1.0, 2.0**-9, 0.3])
@pytest.mark.parametrize("channels", [3, 6, 8])
def test_the_images_gradient_is_of_the_first_channels(channels, factor, dtype, layout, activation):
    whole = activation((2, 8, 7, 9), dtype, layout)[:, :channels]
    found = sk.image_gradient(whole, factor, 3, torch.float32)
    assert torch.equal(found, naive.image_gradient(whole, factor, 3, torch.float32))
    assert found.is_contiguous()


def test_fp64_is_left_whole(device):
    image = picture((1, 3, 4, 5), device).double()
    x, check = sk.network_input(image, 0.5, torch.float64)
    assert torch.equal(x, image * 0.5)
    assert check.dtype == torch.float64
    assert torch.equal(sk.image_gradient(x, 2.0, 3, torch.float64), image)


def test_what_cannot_be_is_refused(device):
    image = torch.zeros(1, 3, 4, 4, device=device)
    with pytest.raises(ValueError, match="parts must be 1 or 2, got 3"):
        sk.network_input(image, 1.0, torch.float16, parts=3)
    with pytest.raises(ValueError, match=r"channels must be 6 or more .* got 5"):
        sk.network_input(image, 1.0, torch.float16, parts=2, channels=5)
    with pytest.raises(TypeError, match=r"dtype must be float16.*, got torch.int32"):
        sk.network_input(image, 1.0, torch.int32)
    with pytest.raises(ValueError, match=r"channels must be 1 to 3.*, got 4"):
        sk.image_gradient(image, 1.0, 4, torch.float32)
    with pytest.raises(ValueError, match="gradient must be"):
        sk.image_gradient(image[0], 1.0, 3, torch.float32)
