"""Sums over the tiles of one layer, and over all processes: its Gram matrices and content loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

import stylekernels as sk
from stylebench.engines.fused.guided import Guide
from stylebench.engines.fused.tap import gram
from stylebench.model.precision import in_fp64
from stylebench.model.tiles import Tile
from stylebench.processes.ranks import Ranks, in_order
from stylekernels.ops.style.cpu import loss_of_gram_


class GramSum:
    """A sum in fp64, so that its rounding does not depend on how many tiles there are.

    Args:
        channel_scale: [N], as of ``Tap``, for the features that are added.
        guide: of a region; None: the Gram matrix is of all positions.

    Attributes:
        products: [1, N, N], of all positions that were added; None before the first.
        positions: that the products are of.
    """

    def __init__(self, channel_scale: Tensor | None, guide: Guide | None = None) -> None:
        self._channel_scale = channel_scale
        self._guide = guide
        self.products: Tensor | None = None
        self.positions = 0
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
        self.products = products if self.products is None else self.products.add_(products)
        self.positions += positions
        self._dtype = F.dtype

    def gram(self, like: Tensor) -> Tensor:
        """G [1, N, N] of all tiles, in the dtype and on the device of ``like``."""
        assert self.products is not None
        return (self.products / self._divisor).to(like)

    def style_loss(self, A: Tensor, weight: float) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Weight * sum((G - A)^2), and its slope for the features that were added, as ``Tap``'s."""
        loss, *slope = loss_of_gram_(
            self.gram(A), A, weight, self._divisor, self._dtype, self._channel_scale
        )
        return loss, (slope[0], slope[1])

    @property
    def _divisor(self) -> float:
        """Positions, or the mass of the region's mask."""
        return self.positions if self._guide is None else self._guide.mass


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
        self.content: Tensor | None = None

    def add_features(self, F: Tensor, tile: Tile, pooled: bool) -> None:
        """Add features [1, N, h, w] of a tile to the Gram matrices."""
        for total in self.grams:
            total.add(F, tile.rows.place(pooled), tile.columns.place(pooled))

    def add_content_loss(self, F: Tensor, P: Tensor, weight: float) -> None:
        """Add weight * sum((F - P)^2), of features and targets [1, N, h, w] of a tile."""
        if not F.numel():
            return
        loss = in_fp64(sk.content_loss(F, P, weight, self.channel_scale))
        self.content = loss if self.content is None else self.content + loss

    def content_loss(self, like: Tensor) -> Tensor:
        """The content loss of all tiles, [], in the dtype and on the device of ``like``."""
        assert self.content is not None
        return self.content.to(like)


def add_up(
    sums: Mapping[str, LayerSums], tv: Tensor, nothing: Tensor, ranks: Ranks
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Make the sums of a process those of all.

    Args:
        sums: layer -> those of this process's tiles.
        tv: the total variation of its rows, [].
        nothing: 0, or NaN where its image is not finite, [].
        ranks: the processes.

    Returns:
        ``tv`` and ``nothing`` of all, and whether the part of each rank was not finite, [ranks].
    """
    if ranks.alone:
        return tv, nothing, None
    grams = [gram for one in sums.values() for gram in one.grams if gram.products is not None]
    products = [gram.products for gram in grams if gram.products is not None]
    losses = [one for one in sums.values() if one.content is not None]
    finite = sum((0 * product.sum() for product in products), in_fp64(nothing))
    positions = [tv.new_tensor(one.positions, dtype=finite.dtype) for one in grams]
    contents = [one.content for one in losses if one.content is not None]
    gathered = ranks.gather(torch.stack([in_fp64(tv), finite, *contents, *positions]))
    totals = in_order(gathered)
    for one, loss in zip(losses, totals[2:], strict=False):
        one.content = loss
    if grams:
        whole = ranks.sum(torch.cat([product.flatten() for product in products]))
        parts = torch.split(whole, [product.numel() for product in products])
        counts = totals[2 + len(losses) :].tolist()
        for total, part, count in zip(grams, parts, counts, strict=True):
            total.products = part.view(1, *[int(part.numel() ** 0.5)] * 2)
            total.positions = int(count)
    return totals[0].to(tv), totals[1].to(nothing), ~gathered.isfinite().all(1)
