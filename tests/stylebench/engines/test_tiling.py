"""Feature maps in strips: what comes out is what the whole map gives."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from stylebench.engines.fused import tiling
from stylebench.engines.fused.tiling import Map, convolved, rows_of


@pytest.mark.parametrize(("height", "rows"), [(1, 2), (2, 1), (3, 2), (16, 4), (17, 4), (51, 7)])
def test_strips_cover_every_row_once_and_cut_no_window(narrow, height, rows):
    narrow(rows)
    bounds = tiling.row_tiles(height, 5, 3, torch.empty(()))
    assert bounds[0][0] == 0
    assert bounds[-1][1] == height
    assert all(stop == start for (_, stop), (start, _) in pairwise(bounds))
    assert all(start % 2 == 0 for start, _ in bounds)
    assert all(stop - start >= min(2, height) for start, stop in bounds)


def test_a_small_map_is_one_strip():
    assert tiling.row_tiles(48, 64, 512, torch.empty(())) == [(0, 48)]
    assert len(tiling.row_tiles(384, 512, 64, torch.empty(()))) > 1


@pytest.mark.parametrize("bounds", [(0, 4), (3, 7), (5, 9), (0, 9)], ids=str)
def test_rows_of_a_convolution_need_one_row_on_either_side(bounds):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(1, 3, 9, 6, dtype=torch.float64, generator=generator)
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64, generator=generator)

    def convolve(part, padding):
        return F.conv2d(part, weight, padding=padding)

    start, stop = bounds
    found = convolved(convolve, rows_of(x), start, stop, 9)
    torch.testing.assert_close(found, convolve(x, (1, 1))[:, :, start:stop])


def test_a_map_is_put_together_in_memory_that_it_keeps():
    x = torch.arange(60.0).view(1, 2, 6, 5)
    put_together = Map()
    for start, stop in [(0, 2), (2, 6)]:
        put_together.put(x[:, :, start:stop], start, stop, 6)
    assert torch.equal(put_together.whole, x)
    assert torch.equal(put_together.rows(1, 3), x[:, :, 1:3])
    where = put_together.whole.data_ptr()
    put_together.release()
    with pytest.raises(RuntimeError, match="before its layer was computed"):
        put_together.rows(0, 1)
    put_together.put(x[:, :, :3], 0, 3, 6)
    assert put_together.whole.data_ptr() == where


def test_a_single_strip_is_the_map_itself():
    x = torch.zeros(1, 2, 6, 5)
    whole = Map()
    whole.put(x, 0, 6, 6)
    assert whole.whole is x
