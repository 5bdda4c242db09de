"""Horizontal tiles of a feature map, so that what lies between two layers stays near the core.

On a CPU the maps of VGG's first blocks are larger than its caches, and memory for each of them,
asked for anew, costs more to obtain than to fill. A convolution, what follows it point by point and
the pooling therefore go through a map tile by tile, and only what has to last is put together
again. A row of a 3 x 3 convolution needs one row of its input above and one below, no more, and
what a tile gives is bit for bit what the whole map gives.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

RowSource = Callable[
    [int, int], Tensor
]  # (start, stop) -> those rows of a map, [1, N, stop - start, W]
Convolve = Callable[[Tensor, tuple[int, int]], Tensor]  # by (input, padding)

TILE_BYTES = 4 << 20  # bytes: a tile and what is made of it fit into the caches of two cores
MIN_ROWS = 32  # rows: with fewer, oneDNN has too little to spread over the cores


def row_tiles(height: int, width: int, channels: int, like: Tensor) -> list[tuple[int, int]]:
    """(start, stop) of the tiles of a map [1, channels, height, width].

    All begin at an even row, so that no window of a pooling is cut, and none is much smaller than
    the others. On a GPU there is one: memory is far from all cores alike, and they need the work.

    Args:
        height: H.
        width: W.
        channels: N.
        like: has the map's dtype and device.
    """
    windows = max(1, height // 2)
    count = 1
    if like.device.type == "cpu":
        row = max(1, channels * width * like.element_size())
        rows = max(MIN_ROWS, TILE_BYTES // row)
        count = max(1, min(height // rows, windows))
    starts = [2 * (windows * i // count) for i in range(count)]
    return list(zip(starts, [*starts[1:], height], strict=True))


def tile_size(height: int, width: int, channels: int, like: Tensor) -> tuple[int, int]:
    """(rows, columns) of most of the ``row_tiles``, without the rows beside them."""
    return row_tiles(height, width, channels, like)[0][1], width


def row_source(x: Tensor) -> RowSource:
    """RowSource of ``x`` [1, N, H, W], as they lie."""
    return lambda start, stop: x[:, :, start:stop]


def convolved(convolve: Convolve, source: RowSource, start: int, stop: int, height: int) -> Tensor:
    """RowSource ``start`` to ``stop`` of a 3 x 3 convolution with padding 1.

    Args:
        convolve: the convolution.
        source: rows of its input, which has ``height`` of them.
        start: first row.
        stop: the row after the last.
        height: H.
    """
    above, below = int(start > 0), int(stop < height)  # rows in place of padding
    x = source(start - above, stop + below)
    if above and below:
        return convolve(x, (0, 1))
    y = convolve(x, (1, 1))
    return y[:, :, above : y.shape[2] - below] if above or below else y


class TiledTensor:
    """A map [1, N, H, W] put together from tiles; a single tile is the map itself.

    Memory that tiles were put into is kept for the next iteration. RowSource may be put again, as a
    gradient is where the activation was.
    """

    def __init__(self) -> None:
        self._whole: Tensor | None = None
        self._memory: Tensor | None = None

    def reserve(self, height: int, width: int, channels: int, like: Tensor) -> None:
        """Obtain the memory that tiles are put into, as ``like`` in dtype and device."""
        shape = (1, channels, height, width)
        if self._memory is None or self._memory.shape != shape:
            memory = like.new_empty(1, height, width, channels)
            self._memory = memory.permute(0, 3, 1, 2)  # channels-last

    def put(self, tile: Tensor, start: int, stop: int, height: int) -> None:
        """Store rows ``start`` to ``stop`` of ``height``."""
        if stop - start == height:
            self._whole = tile
            return
        self.reserve(height, tile.shape[3], tile.shape[1], tile)
        self._whole = self._memory
        self.rows(start, stop).copy_(tile)

    @property
    def whole(self) -> Tensor:
        """The map, once every row has been put."""
        if self._whole is None:
            raise RuntimeError("a feature map was asked for before its layer was computed")
        return self._whole

    def rows(self, start: int, stop: int) -> Tensor:
        """RowSource ``start`` to ``stop``, as they lie."""
        return self.whole[:, :, start:stop]

    def release(self) -> None:
        """Forget what was put; memory that tiles were put into stays."""
        self._whole = None
