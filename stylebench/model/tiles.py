"""Tiles of an image's feature maps: the positions that each is for, and those that it reads.

A network is cut block by block: some convolutions, and the pooling that ends them. What passes from
one block to the next is kept whole, so that a tile's halo is that of a single block and not of the
network. In positions of the block's input, with n convolutions in the block:

- n for features, of which each convolution reads one neighbor more;
- 2 n for gradients: a gradient reaches n positions far, and the activations there n further.

Zeros pad a map at its true border alone. At a cut edge a convolution pads as well, and what is
wrong by that stays in the halo. A map that wraps around has no border: every tile has a halo on all
sides, at the edge from the opposite one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from math import sqrt

import torch
from torch import Tensor

from stylebench.model.vgg import LAYERS, VGG19
from stylebench.processes.bands import UNIT, Rows, bands_of, fill_halo
from stylebench.processes.ranks import ALONE, Ranks

ALIGNMENT = 4  # positions: no pooling window and no square of a Winograd convolution is cut
BANDS = "rows:"  # before the rows of tiles over the whole width, where tiles are named
_FEWEST = 16  # positions of a tile's side


@dataclass(frozen=True)
class Span:
    """A tile along one side of a map, in positions.

    Attributes:
        start: the first that the tile is for.
        stop: the one after the last.
        first: the first that it reads; below 0 they are the side's last, where the map wraps.
        last: the one after the last; beyond the side's end they are its first, likewise.
        length: of the side.
    """

    start: int
    stop: int
    first: int
    last: int
    length: int

    @property
    def wraps(self) -> bool:
        """Whether it reads across the map's edge."""
        return self.first < 0 or self.last > self.length

    def reads(self, other: Span) -> bool:
        """Whether positions that ``other`` is for are among those that it reads."""
        shifts = (-self.length, 0, self.length) if self.wraps else (0,)
        return self.last - self.first >= self.length or any(
            other.start + shift < self.last and self.first < other.stop + shift for shift in shifts
        )

    def place(self, pooled: bool) -> slice:
        """The tile's positions in the whole map, or in that after a pooling."""
        return slice(self.start // 2, self.stop // 2) if pooled else slice(self.start, self.stop)

    def window(self, pooled: bool) -> slice:
        """The positions that it reads, likewise; where it wraps, from below 0 to beyond the end."""
        return slice(self.first // 2, self.last // 2) if pooled else slice(self.first, self.last)

    def own(self, pooled: bool) -> slice:
        """The tile's positions in the window."""
        place, window = self.place(pooled), self.window(pooled)
        return slice(place.start - window.start, place.stop - window.start)


@dataclass(frozen=True)
class Tile:
    """A rectangle of a block's maps; ``pooled`` means the map after the block's pooling."""

    rows: Span
    columns: Span

    @property
    def wraps(self) -> bool:
        """Whether it reads across an edge of the map."""
        return self.rows.wraps or self.columns.wraps

    def size(self, pooled: bool = False) -> tuple[int, int]:
        """(H, W) of the whole map."""
        height, width = self.rows.length, self.columns.length
        return (height // 2, width // 2) if pooled else (height, width)

    def place(self, x: Tensor, pooled: bool = False) -> Tensor:
        """The tile's positions of a whole map [1, N, H, W], a view."""
        return x[:, :, self.rows.place(pooled), self.columns.place(pooled)]

    def window(self, x: Tensor, pooled: bool = False) -> Tensor:
        """The part of a whole map [1, N, H, W] that it reads: a view, or a copy where it wraps."""
        if not self.wraps:
            return x[:, :, self.rows.window(pooled), self.columns.window(pooled)]
        return _around(_around(x, 2, self.rows.window(pooled)), 3, self.columns.window(pooled))

    def own(self, x: Tensor, pooled: bool = False) -> Tensor:
        """The tile's positions of a window [1, N, H', W'], a view."""
        return x[:, :, self.rows.own(pooled), self.columns.own(pooled)]


@dataclass(frozen=True)
class Tiling:
    """The size of tiles, in positions of the first block.

    Deeper blocks have more channels: the sides of their tiles are as much shorter as keeps the
    memory of a tile the same. A block whose maps are smaller than a tile is not cut.

    Attributes:
        height: rows.
        width: columns, or None for the map's whole width: tiles are bands.
    """

    height: int
    width: int | None = None

    @classmethod
    def of(cls, name: int | str) -> Tiling | None:
        """Square tiles by their side, bands by ``rows:PX``; None for ``none``."""
        if name == "none":
            return None
        if isinstance(name, int):
            return cls(name, name)
        return cls(int(name.removeprefix(BANDS)))

    @property
    def name(self) -> int | str:
        """The name that ``of`` takes."""
        return f"{BANDS}{self.height}" if self.width is None else self.height

    def tiles(
        self,
        layers: Iterable[str],
        height: int,
        width: int,
        wraps: bool = False,
        own: slice | None = None,
    ) -> list[Tile]:
        """The tiles of a block's input, row by row.

        Args:
            layers: names of the block's layers.
            height: H of its input.
            width: W of it.
            wraps: opposite borders of the input meet.
            own: the rows that tiles are of; None: all. The others are read.
        """
        tallest, widest, halo = self._of_block(list(layers))
        if own is None or own == slice(0, height):
            bands = spans(height, tallest, halo, wraps)
        else:
            bands = spans_of(own, height, tallest, halo)
        columns = spans(width, widest, halo, wraps)
        return [Tile(rows, part) for rows in bands for part in columns]

    def window(self, layers: Iterable[str], height: int, width: int) -> tuple[int, int] | None:
        """The rows and columns that a tile of a block's input reads; None where it is not cut.

        To the alignment, and of a map of any size: its tiles may be too many to be counted.
        """
        tallest, widest, halo = self._of_block(list(layers))
        window = _window(height, tallest, halo), _window(width, widest, halo)
        return None if window == (height, width) else window

    def _of_block(self, layers: list[str]) -> tuple[int | None, int | None, int]:
        """The sides of a tile at most, and its halo."""
        halo = halo_of(layers)
        shrink = 1.0 if self.width is None else sqrt(64 / LAYERS[layers[0]][1])
        tallest, widest = (side and int(side * shrink) for side in (self.height, self.width))
        return tallest, widest, halo


#: One tile, whatever the size.
UNCUT = Tiling(2**31)


def spans(length: int, size: int | None, halo: int, wraps: bool = False) -> list[Span]:
    """Cut a side of a map into tiles of nearly one size, which read windows of nearly one size.

    Windows of few different shapes are compiled and set up for but once.

    Args:
        length: of the side, in positions.
        size: of a tile at most, rounded to the alignment; None: the side is not cut.
        halo: positions that a tile reads beyond its own, as far as there are any.
        wraps: there always are: the side has no end.
    """
    window = _window(length, size, halo)
    reach = _aligned(halo) if wraps else 0
    if window == length:
        return [Span(0, length, -reach, length + reach, length)]
    halo = _aligned(halo)
    parts = _parts(0, length, size)
    if wraps:
        return [Span(start, stop, start - halo, stop + halo, length) for start, stop in parts]
    latest = max(0, (length - window) // ALIGNMENT * ALIGNMENT)
    firsts = [min(max(0, start - halo), latest) for start, _ in parts]
    lasts = [length if first == latest else first + window for first in firsts]
    return [
        Span(*part, first, last, length)
        for part, first, last in zip(parts, firsts, lasts, strict=True)
    ]


def spans_of(own: slice, length: int, size: int | None, halo: int) -> list[Span]:
    """Cut a part of a side into tiles of nearly one size; otherwise as ``spans``."""
    halo = _aligned(halo)
    return [
        Span(start, stop, max(0, start - halo), min(length, stop + halo), length)
        for start, stop in _parts(own.start, own.stop, size)
    ]


def _parts(start: int, stop: int, size: int | None) -> list[tuple[int, int]]:
    """The (start, stop) of tiles of nearly one size, cut at the alignment from ``start`` on."""
    squares, count = _cut(stop - start, size)
    starts = (start + ALIGNMENT * (squares * index // count) for index in range(count))
    return list(pairwise([*starts, stop]))


def outermost(tile: Tile, own: slice) -> Tile:
    """A tile at the edge of the rows ``own`` as if it were for all beyond them that it reads."""
    if tile.wraps:  # which has no edge
        return tile
    rows = tile.rows
    start = rows.first if rows.start == own.start else rows.start
    stop = rows.last if rows.stop == own.stop else rows.stop
    return replace(tile, rows=replace(rows, start=start, stop=stop))


def halo_of(layers: Iterable[str]) -> int:
    """The positions that a gradient of a block reads beyond a tile's own, on either side."""
    return 2 * sum(name.startswith("conv") for name in layers)


def aligned_halo_of(layers: Iterable[str]) -> int:
    """As ``halo_of``, to the alignment of tiles: the rows that a band reads of its neighbors."""
    return _aligned(halo_of(layers))


def unit_of(layers: Iterable[str]) -> int:
    """The rows of a picture that all poolings of a network leave one of; ``UNIT`` at least."""
    return max(UNIT, 2 ** sum(name.startswith("pool") for name in layers))


def _window(length: int, size: int | None, halo: int) -> int:
    """The positions that a tile reads; as ``spans``, and ``length`` where the side is not cut."""
    squares, count = _cut(length, size)
    if count == 1 or _aligned(max(size or length, _FEWEST)) + 2 * _aligned(halo) >= length:
        return length
    return min(length, 2 * _aligned(halo) + ALIGNMENT * -(-squares // count))


def _cut(length: int, size: int | None) -> tuple[int, int]:
    """The squares of a side, and the tiles that they are cut into."""
    size = length if size is None else _aligned(max(size, _FEWEST))
    return -(-length // ALIGNMENT), max(1, -(-length // max(1, size)))


def blocks(layers: Iterable[str]) -> list[list[str]]:
    """The names of layers, block by block: ``conv2_1`` to ``pool2`` is one."""
    return [list(names) for _, names in groupby(layers, _block)]


def put_own(whole: Tensor | None, x: Tensor, tile: Tile, pooled: bool = False) -> Tensor:
    """Copy the tile's positions of a window into the whole map, and return that.

    Args:
        whole: [1, N, H, W]; None for new memory, in the dtype and memory format of ``x``.
        x: the window [1, N, h, w].
        tile: whose window it is.
        pooled: whether the maps are those after the block's pooling.
    """
    if whole is None:
        whole = empty_map(x, *tile.size(pooled))
    tile.place(whole, pooled).copy_(tile.own(x, pooled))
    return whole


def empty_map(like: Tensor, height: int, width: int) -> Tensor:
    """Memory for a map [1, N, height, width], in dtype and memory format of ``like``."""
    channels_last = like.stride(1) == 1 and not like.is_contiguous()
    return torch.empty(
        (1, like.shape[1], height, width),
        dtype=like.dtype,
        device=like.device,
        memory_format=torch.channels_last if channels_last else torch.contiguous_format,
    )


def tiled_features(
    network: VGG19, image: Tensor, tiling: Tiling | None, ranks: Ranks = ALONE
) -> Iterator[tuple[str, Tensor]]:
    """(layer, features [1, N, h, w]) of every layer, tile by tile, one map in memory at a time.

    Every position of a layer is in exactly one tile of one rank, and its features are the whole
    image's. Of an image that is too low for all ranks each rank has all tiles.

    Args:
        network: whose layers, all of them, are computed.
        image: preprocessed [1, 3, H, W].
        tiling: None for a single tile, which is the whole image, or a rank's band.
        ranks: who compute them.
    """
    bands = bands_of(ranks, image.shape[2], unit_of(network.layers))
    image, rows = bands.own(image), bands.rows
    for names in blocks(network.layers):
        rows = rows.reading(aligned_halo_of(names))
        image = widened(image, rows, bands.ranks)
        height, width = image.shape[2:]
        tiles = (tiling or Tiling(height)).tiles(names, height, width, own=rows.own)
        output: Tensor | None = None
        for tile in tiles:
            x = tile.window(image)
            for name in names:
                x = network.layers[name](x)
                yield name, tile.own(x, pooled=name.startswith("pool"))
            if names[-1].startswith("pool"):
                whole = len(tiles) == 1 and bands.ranks.alone
                output = x if whole else put_own(output, x, tile, pooled=True)
        if output is None:
            return
        rows = rows.pooled()
        image = output if bands.ranks.alone else output[:, :, rows.own]


def widened(x: Tensor, rows: Rows, ranks: Ranks) -> Tensor:
    """The rows of a map that ``rows`` hold, of those that each rank owns, [1, N, h, W]."""
    if ranks.alone:
        return x
    held = empty_map(x, rows.held, x.shape[3])
    held[:, :, rows.own] = x
    fill_halo(held, rows, ranks)
    return held


def _around(x: Tensor, dim: int, positions: slice) -> Tensor:
    """Positions of x along ``dim``, counted on from 0 and from the end, of any number."""
    first, length, parts = positions.start, x.shape[dim], []
    while first < positions.stop:
        start = first % length
        count = min(positions.stop - first, length - start)
        parts.append(x.narrow(dim, start, count))
        first += count
    return torch.cat(parts, dim)


def _aligned(positions: int) -> int:
    return -(-positions // ALIGNMENT) * ALIGNMENT


def _block(layer: str) -> str:
    """The number of the block that ``layer`` is in."""
    return layer.removeprefix("conv").removeprefix("relu").removeprefix("pool")[0]
