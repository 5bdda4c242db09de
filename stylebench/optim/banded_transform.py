"""The Fourier transform of a picture whose rows are several processes'.

A slab decomposition: each process transforms its rows along the width, and hands every other the
columns of the spectrum that are that one's; it has then whole columns, transforms them along the
height, and all goes back the same way. A value crosses between processes twice.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from stylebench.processes.bands import Bands


class BandedTransform:
    """A filter of a real picture's frequencies.

    Args:
        bands: of the picture.
        width: of it, in pixels.

    Attributes:
        own: the columns of the spectrum [.., height, width // 2 + 1] that this process filters.
    """

    def __init__(self, bands: Bands, width: int) -> None:
        ranks, rows = bands.ranks, bands.rows
        columns = width // 2 + 1
        cuts = [columns * rank // ranks.size for rank in range(ranks.size + 1)]
        self._ranks, self._width, self._height = ranks, width, bands.height
        self._rows = [slice(a, b) for a, b in pairwise(rows.cuts)]
        self._columns = [slice(a, b) for a, b in pairwise(cuts)]
        self.own = self._columns[ranks.rank]

    def filtered(self, band: Tensor, scale: Callable[[Tensor], object]) -> Tensor:
        """The rows of this process, filtered; the transforms' factor, 1 / (H W), is left out.

        Args:
            band: [1, C, h, W], real.
            scale: changes the spectrum [1, C, H, k] of the columns ``own`` in place.
        """
        halves = torch.fft.rfft(band, norm="backward")  # [1, C, h, W // 2 + 1]
        columns = self.own.stop - self.own.start
        spectrum = halves.new_empty((*band.shape[:2], self._height, columns))
        self._exchange(
            [halves[..., columns] for columns in self._columns],
            [spectrum[:, :, rows] for rows in self._rows],
        )
        spectrum = torch.fft.fft(spectrum, dim=2, norm="backward").contiguous()
        scale(spectrum)
        spectrum = torch.fft.ifft(spectrum, dim=2, norm="forward")
        self._exchange(
            [spectrum[:, :, rows] for rows in self._rows],
            [halves[..., columns] for columns in self._columns],
        )
        return torch.fft.irfft(halves, n=self._width, norm="forward")

    def _exchange(self, parts: list[Tensor], places: list[Tensor]) -> None:
        """Send a complex part to each rank, and put what comes from each into its place."""
        mine = self._ranks.rank
        sends = {
            rank: torch.view_as_real(part.contiguous())
            for rank, part in enumerate(parts)
            if rank != mine
        }
        receives = {
            rank: torch.view_as_real(torch.empty_like(place, memory_format=torch.contiguous_format))
            for rank, place in enumerate(places)
            if rank != mine
        }
        places[mine].copy_(parts[mine])
        self._ranks.swap(sends, receives)
        for rank, received in receives.items():
            places[rank].copy_(torch.view_as_complex(received))
