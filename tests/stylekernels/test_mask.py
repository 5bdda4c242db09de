import pytest
import torch

from stylekernels.ops.pointwise import naive
from stylekernels.ops.pointwise.cpu import mask_
from stylekernels.runtime.layout import bands

DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]


@pytest.fixture(params=DTYPES, ids=str)
def kind(request):
    return request.param


@pytest.mark.parametrize("shape", [(1, 64, 9, 7), (2, 5, 3, 4), (300, 64)], ids=str)
def test_the_mask_is_that_of_the_relu(kind, shape):
    x, gradient = torch.randn(shape).relu().to(kind), torch.randn(shape).to(kind)
    expected = naive.mask(gradient, x)
    mask_(gradient, x)
    assert torch.equal(gradient, expected)
    assert (gradient == 0).any()
    assert (gradient != 0).any()


def test_the_mask_reads_slices_of_channels_last_maps(kind):
    x, whole = (
        torch.randn(1, 8, 12, 6).to(kind).to(memory_format=torch.channels_last) for _ in range(2)
    )
    x = x.relu()
    before = whole.clone()
    mask_(whole[:, :, 2:7], x[:, :, 4:9])
    assert torch.equal(whole[:, :, 2:7], naive.mask(before[:, :, 2:7], x[:, :, 4:9]))
    assert torch.equal(whole[:, :, :2], before[:, :, :2])
    assert torch.equal(whole[:, :, 7:], before[:, :, 7:])


def test_the_mask_takes_large_maps_band_by_band(kind):
    x, gradient = torch.randn(1, 64, 96, 200).relu().to(kind), torch.ones(1, 64, 96, 200).to(kind)
    mask_(gradient, x)
    assert torch.equal(gradient, (x > 0).to(kind))


def test_what_is_off_loses_even_a_gradient_without_bounds(kind):
    x = torch.tensor([[0.0, -0.0, 2.0, float("inf"), 1e-40]]).to(kind)
    gradient = torch.tensor([[float("inf"), float("nan"), -3.0, 4.0, 5.0]]).to(kind)
    tiny = 5.0 if x[0, 4] > 0 else 0.0  # fp16 has nothing so small
    mask_(gradient, x)
    assert gradient.tolist() == [[0.0, 0.0, -3.0, 4.0, tiny]]


@pytest.mark.parametrize(("rows", "most", "expected"), [(10, 40, [4, 4, 2]), (3, 5, [1, 1, 1])])
def test_bands_cover_the_rows_and_hold_no_more_than_they_may(rows, most, expected):
    cut = bands(torch.empty(1, 2, rows, 5), most)
    assert [band.stop - band.start for band in cut] == expected
    assert [band.start for band in cut] == [sum(expected[:i]) for i in range(len(expected))]
