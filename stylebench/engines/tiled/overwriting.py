"""A map whose tiles are replaced by their gradients while other windows of it are still read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stylebench.model.tiles import Tile


class Overwriting:
    """Writes the gradient of a tile once no window that is still to be read has a part in it.

    The gradient of a block's input needs no memory by that but a few tiles': of all maps the first
    block's output is the largest.

    Args:
        whole: the map [1, N, H, W].
        tiles: row by row, in the order in which they are read.
    """

    def __init__(self, whole: Tensor, tiles: Sequence[Tile]) -> None:
        self._whole = whole
        self._tiles = tiles
        self._pending: dict[int, tuple[int, Tensor]] = {}  # last reader, gradient

    def place(self, index: int) -> Tensor:
        """Memory for the gradient of a tile [1, N, h, w], to be filled before the next ``read``.

        Its window has been read; it is the map's own memory, if no later window has a part in it.
        """
        own = self._tiles[index].place(self._whole)
        last = self._last_reader(index)
        if last == index:
            return own
        gradient = torch.empty_like(own)
        self._pending[index] = last, gradient
        return gradient

    def read(self, count: int) -> None:
        """Windows of the first ``count`` tiles have been read, and are not needed any more."""
        for index, (last, gradient) in list(self._pending.items()):
            if last < count:
                self._tiles[index].place(self._whole).copy_(gradient)
                del self._pending[index]

    def _last_reader(self, index: int) -> int:
        """The last tile whose window has a part in the own positions of tile ``index``."""
        own, last = self._tiles[index], index
        for later in range(index + 1, len(self._tiles)):
            window = self._tiles[later]
            if window.rows.first >= own.rows.stop and not own.wraps:  # tiles go row by row
                break
            if window.rows.reads(own.rows) and window.columns.reads(own.columns):
                last = later
        return last
