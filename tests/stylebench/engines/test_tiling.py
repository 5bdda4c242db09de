"""Feature maps in tiles: together they give what the whole map gives."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from stylebench.engines.fused import tiling
from stylebench.engines.fused.tiling import TiledTensor, convolved, row_source


@pytest.mark.parametrize(("height", "rows"), [(1, 2), (2, 1), (3, 2), (16, 4), (17, 4), (51, 7)])
def test_tiles_cover_every_row_once_and_cut_no_window(set_tile_rows, height, rows):
    set_tile_rows(rows)
    bounds = tiling.row_tiles(height, 5, 3, torch.empty(()))
    assert bounds[0][0] == 0
    assert bounds[-1][1] == height
    assert all(stop == start for (_, stop), (start, _) in pairwise(bounds))
    assert all(start % 2 == 0 for start, _ in bounds)
    assert all(stop - start >= min(2, height) for start, stop in bounds)


def test_a_small_map_is_one_tile():
    assert tiling.row_tiles(48, 64, 512, torch.empty(())) == [(0, 48)]
    assert len(tiling.row_tiles(384, 512, 64, torch.empty(()))) > 1


@pytest.mark.parametrize("bounds", [(0, 4), (3, 7), (5, 9), (0, 9)], ids=str)
def test_rows_of_a_convolution_need_one_row_on_either_side(bounds):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(1, 3, 9, 6, dtype=torch.float64, generator=generator)
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64, generator=generator)

    def convolve(part, above, below):
        return F.conv2d(F.pad(part, (1, 1, int(not above), int(not below))), weight)

    start, stop = bounds
    rows = convolved(convolve, row_source(x), start, stop, 9)
    torch.testing.assert_close(rows, convolve(x, False, False)[:, :, start:stop])


def test_a_map_is_put_together_in_memory_that_it_keeps():
    x = torch.arange(60.0).view(1, 2, 6, 5)
    tiled = TiledTensor()
    for start, stop in [(0, 2), (2, 6)]:
        tiled.put(x[:, :, start:stop], start, stop, 6)
    assert torch.equal(tiled.whole, x)
    assert torch.equal(tiled.rows(1, 3), x[:, :, 1:3])
    address = tiled.whole.data_ptr()
    tiled.release()
    with pytest.raises(RuntimeError, match="before its layer was computed"):
        tiled.rows(0, 1)
    tiled.put(x[:, :, :3], 0, 3, 6)
    assert tiled.whole.data_ptr() == address


def test_a_single_tile_is_the_map_itself():
    x = torch.zeros(1, 2, 6, 5)
    tiled = TiledTensor()
    tiled.put(x, 0, 6, 6)
    assert tiled.whole is x
