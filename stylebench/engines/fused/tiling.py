"""Tiles of a feature map's rows, so that what passes between two layers stays in the CPU's caches.

The maps of VGG's first blocks are larger than a CPU's caches, and new memory for each of them costs
more to obtain than to fill. The convolution, the pointwise operations and the pooling of a stage
therefore go through a map tile by tile, and only what the backward pass needs is put together as a
whole map. A row of a 3 x 3 convolution needs one row of input above it and one below, so tiles give
the same bits as the whole map.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor

RowSource = Callable[[int, int], Tensor]  # (start, stop) -> a map's rows [1, N, stop - start, W]
Result = TypeVar("Result")

TILE_BYTES = 4 << 20  # a tile and what is computed from it fit into the caches of two cores
MIN_ROWS = 32  # with fewer, oneDNN has too little work to spread over the cores


def row_tiles(height: int, width: int, channels: int, like: Tensor) -> list[tuple[int, int]]:
    """(start, stop) of the tiles of a map [1, channels, height, width].

    Every tile starts at a multiple of four rows, so that no pooling window and no square of a
    Winograd convolution is cut, and none is much smaller than the others. A GPU gets one tile: its
    memory is equally far from all cores, which need the work of a whole map.

    Args:
        height: H.
        width: W.
        channels: N.
        like: any tensor of the map's dtype and device.
    """
    squares = max(1, height // 4)
    count = 1
    if like.device.type == "cpu":
        row_bytes = max(1, channels * width * like.element_size())
        rows = max(MIN_ROWS, TILE_BYTES // row_bytes)
        count = max(1, min(height // rows, squares))
    starts = [4 * (squares * i // count) for i in range(count)]
    return list(zip(starts, [*starts[1:], height], strict=True))


def tile_size(height: int, width: int, channels: int, like: Tensor) -> tuple[int, int]:
    """(rows, columns) of most of the ``row_tiles``, without the neighboring rows they also read."""
    return row_tiles(height, width, channels, like)[0][1], width


def row_source(x: Tensor) -> RowSource:
    """Rows of ``x`` [1, N, H, W], as views."""
    return lambda start, stop: x[:, :, start:stop]


def convolved(
    convolve: Callable[[Tensor, bool, bool], Result],
    source: RowSource,
    start: int,
    stop: int,
    height: int,
) -> Result:
    """Rows ``start`` to ``stop`` of a 3 x 3 convolution with padding 1: [1, N, stop - start, W].

    Args:
        convolve: (input, above, below) -> the result: whether the input has a row more above and
            below the output's; where it has not, a row of zeros takes its place.
        source: rows of its input.
        start: first row of the output.
        stop: the row after the last.
        height: H, of input and output.
    """
    above, below = start > 0, stop < height
    return convolve(source(start - above, stop + below), above, below)


class TiledTensor:
    """A map [1, N, H, W] put together from tiles; a single tile is stored without a copy.

    The memory of the whole map is kept from one iteration to the next. Rows may be put again: in
    the backward pass a gradient overwrites the activation it belongs to.
    """

    def __init__(self) -> None:
        self._whole: Tensor | None = None
        self._memory: Tensor | None = None

    def reserve(self, height: int, width: int, channels: int, like: Tensor) -> None:
        """Allocate memory for a map [1, channels, height, width] of ``like``'s dtype and device."""
        shape = (1, channels, height, width)
        if self._memory is None or self._memory.shape != shape:
            memory = like.new_empty(1, height, width, channels)
            self._memory = memory.permute(0, 3, 1, 2)  # [1, H, W, N] -> [1, N, H, W] channels-last

    def place(self, start: int, stop: int, height: int) -> Tensor | None:
        """Memory of rows ``start`` to ``stop`` of ``height``, to be written before they are put.

        None without memory for them: a single tile brings its own.
        """
        if stop - start == height or self._memory is None or self._memory.shape[2] != height:
            return None
        return self._memory[:, :, start:stop]

    def put(self, tile: Tensor, start: int, stop: int, height: int) -> None:
        """Store rows ``start`` to ``stop`` of ``height``; what is in its place stays there."""
        if stop - start == height:
            self._whole = tile
            return
        self.reserve(height, tile.shape[3], tile.shape[1], tile)
        self._whole = self._memory
        rows = self.rows(start, stop)
        if rows.data_ptr() != tile.data_ptr():
            rows.copy_(tile)

    @property
    def whole(self) -> Tensor:
        """The map [1, N, H, W]; complete once every row has been put.

        Raises:
            RuntimeError: no row has been put.
        """
        if self._whole is None:
            raise RuntimeError("a feature map was asked for before its layer was computed")
        return self._whole

    def rows(self, start: int, stop: int) -> Tensor:
        """Rows ``start`` to ``stop`` [1, N, stop - start, W], a view."""
        return self.whole[:, :, start:stop]

    def release(self) -> None:
        """Forget the map; the memory that tiles were copied into is kept."""
        self._whole = None

    def free(self) -> None:
        """Forget the map and its memory."""
        self._whole = self._memory = None
