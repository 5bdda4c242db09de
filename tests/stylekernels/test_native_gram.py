"""Gram products in native code: every shape that it takes, against fp64."""

import pytest
import torch

from stylekernels.ops.style import cpu, native

CHANNELS = 32

pytestmark = pytest.mark.skipif(
    not native.supports(torch.empty(1, CHANNELS)), reason="no native code on this platform"
)


def features(positions, channels, seed=7):
    return torch.randn(positions, channels, generator=torch.Generator().manual_seed(seed))


def exactly(x):
    return x.double().T @ x.double()


def error(result, exact):
    return ((result - exact).norm() / exact.norm()).item()


# one position, less than a chunk, chunks, groups of them, and a last chunk of one
@pytest.mark.parametrize("positions", [1, 100, 128, 129, 2048, 2049, 5000])
@pytest.mark.parametrize("channels", [CHANNELS, 64, 160])
def test_products_are_right_and_symmetric(positions, channels):
    x = features(positions, channels)
    result = native.products(x)
    assert error(result, exactly(x)) <= 3e-7
    assert torch.equal(result, result.T)


def test_any_number_of_threads_gives_the_same_bits():
    x, before, results = features(3000, 64), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results += [native.products(x), native.products(x)]
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_shows_in_its_row_and_column_alone(value):
    x = features(300, CHANNELS)
    x[130, 5] = value
    lost = ~native.products(x).isfinite()
    expected = torch.zeros_like(lost)
    expected[5, :] = expected[:, 5] = True
    assert torch.equal(lost, expected)


@pytest.mark.parametrize(
    "x",
    [
        torch.empty(10, 24),
        torch.empty(10, CHANNELS).double(),
        torch.empty(10, 2 * CHANNELS)[:, ::2],
        torch.empty(0, CHANNELS),
        torch.empty(10, CHANNELS, device="meta"),
    ],
    ids=["channels", "dtype", "strides", "empty", "device"],
)
def test_others_are_left_to_plain_torch(x):
    assert not native.supports(x)


def test_the_gram_of_a_batch_is_taken_natively(monkeypatch):
    taken = []
    products = native.products
    monkeypatch.setattr(native, "products", lambda x: taken.append(x.shape) or products(x))
    x = torch.randn(2, CHANNELS, 9, 7, generator=torch.Generator().manual_seed(7))
    gram = cpu.gram(x.contiguous(memory_format=torch.channels_last))
    assert taken == [(63, CHANNELS)] * 2
    flat = x.flatten(2).double()
    assert error(gram, flat @ flat.mT / 63) <= 3e-7


def test_sixteen_lanes_compute_the_same(monkeypatch):
    """As processors with AVX-512 do; others do each vector in two halves."""
    if native.lanes() == 16:
        pytest.skip("the other tests are of sixteen lanes")
    x = features(777, 64)
    monkeypatch.setattr(native, "lanes", lambda: 16)
    assert error(native.products(x), exactly(x)) <= 3e-7
