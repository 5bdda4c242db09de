"""Bands: the rows of a picture, and of its feature maps, that each process holds.

A picture's rows are cut at multiples of a unit, so that no window of a pooling is parted. Before a
block of convolutions a process reads the rows of its neighbors that its
own depend on, the halo: exchanged anew for every block, and not computed twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stylebench.processes.ranks import ALONE, Ranks

UNIT = 16  # rows, which four poolings leave one of


@dataclass(frozen=True)
class Rows:
    """The rows of one map that a process holds.

    Attributes:
        cuts: the first row of every rank, and the map's height.
        rank: of the process.
        halo: rows that it reads beyond its own on either side, as far as there are any.
    """

    cuts: tuple[int, ...]
    rank: int
    halo: int = 0

    @classmethod
    def of(cls, height: int, processes: int, rank: int, unit: int) -> Rows:
        """The rows of a picture in nearly equal bands; those left over are the last rank's."""
        units = height // unit
        starts = (unit * (units * number // processes) for number in range(processes))
        return cls((*starts, height), rank)

    @property
    def start(self) -> int:
        """The first of its own."""
        return self.cuts[self.rank]

    @property
    def stop(self) -> int:
        """The one after the last of its own."""
        return self.cuts[self.rank + 1]

    @property
    def first(self) -> int:
        """The first that it holds."""
        return max(0, self.start - self.halo)

    @property
    def last(self) -> int:
        """The one after the last that it holds."""
        return min(self.cuts[-1], self.stop + self.halo)

    @property
    def own(self) -> slice:
        """Its own, among those that it holds."""
        return slice(self.start - self.first, self.stop - self.first)

    @property
    def held(self) -> int:
        """The number of rows that it holds."""
        return self.last - self.first

    def reading(self, halo: int) -> Rows:
        """The same with another halo."""
        return replace(self, halo=halo)

    def pooled(self) -> Rows:
        """The rows of the map after a pooling that those held are enough for."""
        return Rows(tuple(cut // 2 for cut in self.cuts), self.rank, self.halo // 2)

    def of_rank(self, rank: int) -> Rows:
        """Those of another process."""
        return replace(self, rank=rank)

    def part(self, x: Tensor, of: Rows) -> Tensor:
        """The rows that these hold of a map [1, N, H, W] that holds those of ``of``, a view."""
        return x[:, :, self.first - of.first : self.last - of.first]


@dataclass(frozen=True)
class Bands:
    """The bands of one picture.

    Attributes:
        ranks: who hold it.
        height: of the picture.
        unit: rows of which a band is a multiple.
    """

    ranks: Ranks
    height: int
    unit: int = UNIT

    @property
    def rows(self) -> Rows:
        """The rows of this process."""
        return Rows.of(self.height, self.ranks.size, self.ranks.rank, self.unit)

    def own(self, whole: Tensor) -> Tensor:
        """The rows of this process of a picture [1, N, H, W]."""
        if self.ranks.alone:
            return whole
        return whole[:, :, self.rows.start : self.rows.stop].contiguous()

    def whole(self, band: Tensor) -> Tensor:
        """The picture [1, N, H, W] of all bands, on every rank."""
        if self.ranks.alone:
            return band
        everyone = range(self.ranks.size)
        return self._joined(band, dict.fromkeys(everyone, band), list(everyone))

    def at_first(self, band: Tensor) -> Tensor:
        """The picture on rank 0; on others their band."""
        if self.ranks.alone:
            return band
        if self.ranks.first:
            return self._joined(band, {}, list(range(self.ranks.size)))
        return self._joined(band, {0: band}, [])

    def _joined(self, band: Tensor, sends: dict[int, Tensor], sources: list[int]) -> Tensor:
        band, mine = band.contiguous(), self.ranks.rank
        parts = {
            rank: band.new_empty((*band.shape[:2], rows.stop - rows.start, band.shape[3]))
            for rank in sources
            if rank != mine
            for rows in [self.rows.of_rank(rank)]
        }
        self.ranks.swap({r: band for r in sends if r != mine}, parts)
        if not sources:
            return band
        parts[mine] = band
        return torch.cat([parts[rank] for rank in sources], dim=2)


#: The one band of a process alone.
ONE_BAND = Bands(ALONE, 0)


def bands_of(ranks: Ranks, height: int, unit: int = UNIT) -> Bands:
    """The bands of a picture; one that is too low for all ranks is every rank's own."""
    return Bands(ranks if height // unit >= ranks.size else ALONE, height, unit)


def fill_halo(x: Tensor, rows: Rows, ranks: Ranks) -> None:
    """Fill the rows of ``x`` [1, N, held, W] that are other ranks' with what those have there."""
    if ranks.alone:
        return
    sends: dict[int, Tensor] = {}
    receives: dict[int, Tensor] = {}
    places: dict[int, Tensor] = {}
    for rank in range(ranks.size):
        other = rows.of_rank(rank)
        if rank == rows.rank:
            continue
        if (sent := _overlap(x, rows, rows, other)) is not None:
            sends[rank] = sent.contiguous()
        if (place := _overlap(x, rows, other, rows)) is not None:
            places[rank] = place
            receives[rank] = torch.empty_like(place, memory_format=torch.contiguous_format)
    ranks.swap(sends, receives)
    for rank, place in places.items():
        place.copy_(receives[rank])


def _overlap(x: Tensor, rows: Rows, owner: Rows, reader: Rows) -> Tensor | None:
    """The rows of ``x``, which holds ``rows``, that one rank owns and another reads."""
    start, stop = max(owner.start, reader.first), min(owner.stop, reader.last)
    return x[:, :, start - rows.first : stop - rows.first] if start < stop else None
