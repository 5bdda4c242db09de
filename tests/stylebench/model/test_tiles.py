"""Tiles: every position is in one of them, and windows are as large as they have to be, no larger.

The halos are held against a chain of convolutions whose first and last right position is counted.
"""

import pytest
import torch
import torch.nn.functional as F

from stylebench.engines.fp16_calibration import largest_activations
from stylebench.model import tiles
from stylebench.model.normalize import mean_activations
from stylebench.model.presets import PRESETS
from stylebench.model.tiles import Span, Tile, Tiling, blocks, spans, tiled_features
from stylebench.model.vgg import LAYERS, VGG19


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(tiles, "_FEWEST", 4)


@pytest.mark.parametrize("length", [1, 13, 33, 64, 101])
@pytest.mark.parametrize("size", [1, 7, 16, 100, None])
@pytest.mark.parametrize("halo", [2, 4, 8])
def test_spans_share_a_side_and_read_their_halo(length, size, halo):
    cut = spans(length, size, halo)
    assert [span.start for span in cut] == [0, *(span.stop for span in cut[:-1])]
    assert cut[-1].stop == length
    for span in cut:
        assert span.start < span.stop
        assert 0 <= span.first <= max(0, span.start - halo)
        assert min(length, span.stop + halo) <= span.last <= length
        assert span.first % 4 == 0  # no window of a pooling is cut
        assert span.last % 4 == 0 or span.last == length
    assert len({span.last - span.first for span in cut}) <= 2


def test_tiles_of_deeper_blocks_take_no_more_memory():
    tiling, size = Tiling(256, 256), (4000, 4000)
    areas = []
    for names in blocks(LAYERS):
        cut = tiling.tiles(names, *size)
        largest = max(
            (t.rows.stop - t.rows.start) * (t.columns.stop - t.columns.start) for t in cut
        )
        areas.append(largest * LAYERS[names[0]][1])
        size = size[0] // 2, size[1] // 2
    assert all(0.6 < area / (64 * 256**2) < 1.1 for area in areas)  # rounded to four


def test_bands_have_the_whole_width_in_every_block():
    for names in blocks(LAYERS):
        cut = Tiling(64).tiles(names, 1000, 300)
        assert len(cut) > 1
        assert {(t.columns.first, t.columns.last) for t in cut} == {(0, 300)}


@pytest.mark.parametrize("pooling", ["average", "max"])
@pytest.mark.parametrize("size", [(61, 53), (40, 87), (16, 16)])
def test_features_of_tiles_are_the_whole_images(weights64, size, pooling):
    network = VGG19(weights64, "relu3_1", pooling)
    image = torch.randn(1, 3, *size, dtype=torch.float64, generator=torch.manual_seed(0))
    expected = network(image, network.layers)
    sums = dict.fromkeys(expected, 0.0)
    squares, positions = sums.copy(), dict.fromkeys(expected, 0)
    for name, features in tiled_features(network, image, Tiling(4, 8)):
        sums[name] += features.sum(dim=(2, 3))
        squares[name] += features.square().sum(dim=(2, 3))
        positions[name] += features[0, 0].numel()
    for name, features in expected.items():
        assert positions[name] == features[0, 0].numel()
        torch.testing.assert_close(sums[name], features.sum(dim=(2, 3)), rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(squares[name], features.square().sum(dim=(2, 3)))


def test_what_a_run_learns_from_its_images_does_not_depend_on_tiles(weights64):
    network = VGG19(weights64, "relu3_1")
    generator = torch.manual_seed(0)
    images = [
        torch.randn(1, 3, *size, dtype=torch.float64, generator=generator)
        for size in [(61, 53), (40, 70)]
    ]
    for learn in (largest_activations, mean_activations):
        whole, tiled = learn(network, images), learn(network, images, Tiling(8, 12))
        assert list(tiled) == list(whole)
        for name in whole:
            torch.testing.assert_close(tiled[name], whole[name], rtol=1e-12, atol=0)


def reach(convolutions, halo, gradient):
    """Whether rows 20 to 24 of a chain of convolutions are right with so many rows beside them."""
    torch.manual_seed(0)
    kernels = [torch.randn(5, 5, 3, 3, dtype=torch.float64) / 6 for _ in range(convolutions)]
    image = torch.randn(1, 5, 44, 9, dtype=torch.float64)

    def result(x):
        x = x.clone().requires_grad_()
        y = x
        for kernel in kernels:
            y = F.conv2d(y, kernel, padding=1).relu()
        return torch.autograd.grad((y.square() * y).sum(), x)[0] if gradient else y.detach()

    span = Span(20, 24, 20 - halo, 24 + halo, 44)
    tile = Tile(span, Span(0, 9, 0, 9, 9))
    return torch.allclose(tile.own(result(tile.window(image))), tile.place(result(image)))


@pytest.mark.parametrize("preset", PRESETS)
def test_the_halo_is_the_smallest_that_is_right_for_every_block(preset, monkeypatch):
    asked = []
    monkeypatch.setattr(
        tiles,
        "spans",
        lambda length, size, halo, wraps: asked.append(halo) or [Span(0, 1, 0, 1, 1)],
    )
    names = list(LAYERS)
    for block in blocks(names[: names.index(PRESETS[preset].deepest_layer) + 1]):
        asked.clear()
        Tiling(64).tiles(block, 100, 100)
        (halo,) = set(asked)
        convolutions = sum(name.startswith("conv") for name in block)
        assert reach(convolutions, halo, gradient=True)
        assert not reach(convolutions, halo - 1, gradient=True)
        assert reach(convolutions, halo // 2, gradient=False)
        assert not reach(convolutions, halo // 2 - 1, gradient=False)


@pytest.mark.parametrize("name", ["none", 512, "rows:96"])
def test_a_tiling_is_known_by_its_name(name):
    tiling = Tiling.of(name)
    assert (tiling.name if tiling else "none") == name


def test_a_span_after_a_pooling_is_half_as_long():
    span = Span(8, 13, 4, 13, 13)
    assert span.place(pooled=True) == slice(4, 6)
    assert span.window(pooled=True) == slice(2, 6)
    assert span.own(pooled=True) == slice(2, 4)


@pytest.mark.parametrize("tiling", [Tiling(16), Tiling(64), Tiling(24, 40)], ids=str)
@pytest.mark.parametrize("size", [(8, 8), (37, 203), (128, 96), (301, 44)], ids=str)
def test_the_window_is_what_the_tiles_read(tiling, size):
    for layers in blocks(LAYERS):
        cut = tiling.tiles(layers, *size)
        rows = {tile.rows.last - tile.rows.first for tile in cut}
        columns = {tile.columns.last - tile.columns.first for tile in cut}
        window = tiling.window(layers, *size) or size
        assert abs(window[0] - max(rows)) < tiles.ALIGNMENT
        assert abs(window[1] - max(columns)) < tiles.ALIGNMENT
        assert (tiling.window(layers, *size) is None) == (len(cut) == 1)


def test_the_window_of_a_map_beyond_all_memory_is_told_at_once():
    assert Tiling(64).window(["conv1_1", "conv1_2", "pool1"], 10**15, 10**15) == (72, 10**15)
