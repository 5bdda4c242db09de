"""A map whose tiles are replaced by their gradients while other windows of it are still read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stylebench.model.tiles import Span, Tile


class Overwriting:
    """Writes the gradient of a tile once no window that is still to be read has a part in it.

    The gradient of a block's input needs no memory by that but a few tiles': of all maps the first
    block's output is the largest.

    Args:
        whole: the map [1, N, H, W].
        tiles: in the order in which they are read.
    """

    def __init__(self, whole: Tensor, tiles: Sequence[Tile]) -> None:
        self._whole = whole
        self._tiles = tiles
        self._pending: dict[int, Tensor] = {}

    def place(self, index: int) -> Tensor:
        """Memory for the gradient of a tile [1, N, h, w], to be filled before the next ``read``.

        Its window has been read; the map's own memory, if no later window has a part in it.
        """
        own = self._tiles[index].place(self._whole)
        if self._is_done_with(index, index + 1):
            return own
        self._pending[index] = torch.empty_like(own)
        return self._pending[index]

    def read(self, count: int) -> None:
        """Windows of the first ``count`` tiles have been read, and are not needed any more."""
        for index in list(self._pending):
            if self._is_done_with(index, count):
                self._tiles[index].place(self._whole).copy_(self._pending.pop(index))

    def _is_done_with(self, index: int, count: int) -> bool:
        """Whether no window after the first ``count`` has a part in a tile's own positions."""
        return not any(_overlap(self._tiles[index], tile) for tile in self._tiles[count:])


def _overlap(own: Tile, window: Tile) -> bool:
    """Whether a tile's own positions are in another's window."""

    def along(own: Span, window: Span) -> bool:
        return own.start < window.last and window.first < own.stop

    return along(own.rows, window.rows) and along(own.columns, window.columns)
