"""Pooling in native code: the bits of plain torch, whatever it is given."""

import pytest
import torch

from stylekernels.native import has_native_code
from stylekernels.ops.pool import cpu, native

WIDTH = 16  # channels, that every processor's vectors divide

pytestmark = pytest.mark.skipif(
    not has_native_code(),
    reason="no native code on this platform",
)


def channels_last(*shape, dtype=torch.float32):
    batch, channels, height, width = shape
    return torch.empty(batch, height, width, channels, dtype=dtype).permute(0, 3, 1, 2)


def random_map(*shape):
    generator = torch.Generator().manual_seed(7)
    values = torch.randint(-3, 4, shape, generator=generator)  # many zeros and equal maxima
    return channels_last(*shape).copy_(values)


def run(x, maximum):
    """Pooling, code and gradient."""
    batch, channels, height, width = x.shape
    pooled = (batch, channels, height // 2, width // 2)
    y, code = channels_last(*pooled), channels_last(*pooled, dtype=torch.uint8)
    cpu.pool(x, y, code, maximum)
    gradient = channels_last(*x.shape).fill_(torch.nan)  # so that an unwritten element shows
    cpu.pool_backward(random_map(*pooled) + 0.5, code, gradient, maximum)
    return y, code, gradient


@pytest.mark.parametrize("maximum", [False, True])
@pytest.mark.parametrize("size", [(2, 2), (3, 5), (8, 6), (21, 10)], ids=str)
def test_the_bits_are_those_of_plain_torch(monkeypatch, size, maximum):
    x = random_map(2, 2 * WIDTH, *size)
    found = run(x, maximum)
    monkeypatch.setattr(native, "supports", lambda *maps: False)
    for result, expected in zip(found, run(x, maximum), strict=True):
        assert torch.equal(result, expected)


@pytest.mark.parametrize("maximum", [False, True])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("corner", range(4))
def test_what_is_not_finite_goes_where_plain_torch_sends_it(monkeypatch, maximum, value, corner):
    x = random_map(1, WIDTH, 4, 4)
    x[:, :, 2 + corner // 2, corner % 2] = value
    found = run(x, maximum)
    monkeypatch.setattr(native, "supports", lambda *maps: False)
    for result, expected in zip(found, run(x, maximum), strict=True):
        torch.testing.assert_close(result, expected, rtol=0, atol=0, equal_nan=True)


def maps_of(channels):
    """A map, its pooling and its code."""
    pooled = channels_last(1, channels, 2, 2)
    return channels_last(1, channels, 4, 4), pooled, torch.empty_like(pooled, dtype=torch.uint8)


def test_only_what_its_vectors_divide_is_native():
    maps = maps_of(WIDTH)
    assert native.supports(*maps)
    assert not native.supports(*maps_of(3))
    assert not native.supports(*[x.contiguous() for x in maps])


@pytest.mark.parametrize(
    ("wide", "pooled", "code"),
    [
        ((1, WIDTH, 4, 4), (1, WIDTH, 3, 2), (1, WIDTH, 3, 2)),
        ((1, WIDTH, 4, 4), (1, WIDTH, 2, 3), (1, WIDTH, 2, 3)),
        ((1, WIDTH, 4, 4), (1, WIDTH, 2, 2), (1, WIDTH, 2, 1)),
        ((1, WIDTH, 4, 4), (1, 2 * WIDTH, 2, 2), (1, 2 * WIDTH, 2, 2)),
        ((1, WIDTH, 4, 4), (2, WIDTH, 2, 2), (2, WIDTH, 2, 2)),
    ],
)
def test_maps_of_other_sizes_are_not_read_or_written_beyond_their_ends(wide, pooled, code):
    maps = channels_last(*wide), channels_last(*pooled), channels_last(*code, dtype=torch.uint8)
    assert not native.supports(*maps)


def test_maps_of_other_types_are_not_taken():
    wide, pooled, code = maps_of(WIDTH)
    assert not native.supports(wide.double(), pooled, code)
    assert not native.supports(wide, pooled.bfloat16(), code)
    assert not native.supports(wide, pooled, pooled)
    assert not native.supports(wide, pooled, code.to("meta"))
