"""Sums over the tiles of one layer: its Gram matrix and its content loss."""

from __future__ import annotations

import torch
from torch import Tensor

import stylekernels as sk
from stylebench.engines.fused.tap import gram
from stylebench.model.precision import in_fp64
from stylekernels.ops.style.cpu import loss_of_gram_


class LayerSums:
    """Sums in fp64, so that their rounding does not depend on how many tiles there are.

    Attributes:
        channel_scale: [N], as of ``Tap``, for the features that are added.
    """

    def __init__(self, channel_scale: Tensor | None) -> None:
        self.channel_scale = channel_scale
        self._products: Tensor | None = None
        self._content: Tensor | None = None
        self._positions = 0
        self._dtype = torch.float32  # of features

    def add_gram(self, F: Tensor) -> None:
        """Add features [1, N, h, w] of a tile to the Gram matrix."""
        positions = F[0, 0].numel()
        if not positions:
            return
        products = in_fp64(gram(F, self.channel_scale)) * positions
        self._products = products if self._products is None else self._products.add_(products)
        self._positions += positions
        self._dtype = F.dtype

    def add_content_loss(self, F: Tensor, P: Tensor, weight: float) -> None:
        """Add weight * sum((F - P)^2), of features and targets [1, N, h, w] of a tile."""
        if not F.numel():
            return
        loss = in_fp64(sk.content_loss(F, P, weight, self.channel_scale))
        self._content = loss if self._content is None else self._content + loss

    def gram(self, like: Tensor) -> Tensor:
        """G [1, N, N] of all tiles, in the dtype and on the device of ``like``."""
        assert self._products is not None
        return (self._products / self._positions).to(like)

    def content_loss(self, like: Tensor) -> Tensor:
        """The content loss of all tiles, [], likewise."""
        assert self._content is not None
        return self._content.to(like)

    def style_loss(self, A: Tensor, weight: float) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Weight * sum((G - A)^2), and its slope for the features that were added, as ``Tap``'s."""
        loss, *slope = loss_of_gram_(
            self.gram(A), A, weight, self._positions, self._dtype, self.channel_scale
        )
        return loss, (slope[0], slope[1])
