"""Sums over the tiles of one layer: its Gram matrices and its content loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

import stylekernels as sk
from stylebench.engines.fused.guided import Guide
from stylebench.engines.fused.tap import gram
from stylebench.model.precision import in_fp64
from stylebench.model.tiles import Tile
from stylekernels.ops.style.cpu import loss_of_gram_


class GramSum:
    """A sum in fp64, so that its rounding does not depend on how many tiles there are.

    Args:
        channel_scale: [N], as of ``Tap``, for the features that are added.
        guide: of a region; None: the Gram matrix is of all positions.
    """

    def __init__(self, channel_scale: Tensor | None, guide: Guide | None = None) -> None:
        self._channel_scale = channel_scale
        self._guide = guide
        self._products: Tensor | None = None
        self._positions = 0.0
        self._dtype = torch.float32  # of features

    def add(self, F: Tensor, rows: slice, columns: slice) -> None:
        """Add features [1, N, h, w] of a tile, which are these rows and columns of the map."""
        if self._guide is not None:
            part = self._guide.within(rows, columns)
            if part is None:
                return
            F = part.masked(F)
        positions = F[0, 0].numel()
        if not positions:
            return
        products = in_fp64(gram(F, self._channel_scale)) * positions
        self._products = products if self._products is None else self._products.add_(products)
        self._positions += positions
        self._dtype = F.dtype

    def gram(self, like: Tensor) -> Tensor:
        """G [1, N, N] of all tiles, in the dtype and on the device of ``like``."""
        assert self._products is not None
        return (self._products / self._divisor).to(like)

    def style_loss(self, A: Tensor, weight: float) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Weight * sum((G - A)^2), and its slope for the features that were added, as ``Tap``'s."""
        loss, *slope = loss_of_gram_(
            self.gram(A), A, weight, self._divisor, self._dtype, self._channel_scale
        )
        return loss, (slope[0], slope[1])

    @property
    def _divisor(self) -> float:
        """Positions, or the mass of the region's mask."""
        return self._positions if self._guide is None else self._guide.mass


class LayerSums:
    """Sums over the tiles of one layer.

    Args:
        channel_scale: [N], as of ``Tap``, for the features that are added.
        guides: one a Gram matrix, as of ``GramSum``.

    Attributes:
        grams: one a guide.
    """

    def __init__(
        self, channel_scale: Tensor | None, guides: Sequence[Guide | None] = (None,)
    ) -> None:
        self.channel_scale = channel_scale
        self.grams = [GramSum(channel_scale, guide) for guide in guides]
        self._content: Tensor | None = None

    def add_features(self, F: Tensor, tile: Tile, pooled: bool) -> None:
        """Add features [1, N, h, w] of a tile to the Gram matrices."""
        for total in self.grams:
            total.add(F, tile.rows.place(pooled), tile.columns.place(pooled))

    def add_content_loss(self, F: Tensor, P: Tensor, weight: float) -> None:
        """Add weight * sum((F - P)^2), of features and targets [1, N, h, w] of a tile."""
        if not F.numel():
            return
        loss = in_fp64(sk.content_loss(F, P, weight, self.channel_scale))
        self._content = loss if self._content is None else self._content + loss

    def content_loss(self, like: Tensor) -> Tensor:
        """The content loss of all tiles, [], in the dtype and on the device of ``like``."""
        assert self._content is not None
        return self._content.to(like)
