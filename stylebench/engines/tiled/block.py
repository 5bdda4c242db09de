"""The contract of a block of the network, which an engine computes in its own way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from torch import Tensor

from stylebench.engines.fused.tap import Tap
from stylebench.model.tiles import Tile


class Block(Protocol):
    """Some convolutions with their ReLUs, and the pooling that ends them, on one window at a time.

    A block holds what ``backward`` needs of its last window until it is released.

    Attributes:
        layers: names of its layers.
    """

    layers: tuple[str, ...]

    def forward(self, x: Tensor, differentiable: bool) -> Tensor:
        """Window of the input [1, N_in, H, W] -> the next block's input.

        Args:
            x: the first block's is the preprocessed image in fp32 or more.
            differentiable: whether ``backward`` will follow.
        """

    def features(self) -> Iterator[tuple[str, Tensor]]:
        """(layer, features [1, N, h, w]) of every tap, after ``forward``."""

    def channel_scale(self, layer: str) -> Tensor | None:
        """The factors that ``features`` have yet to be multiplied by; see ``Tap``."""

    def code(self) -> Tensor | None:
        """The code that ``recall`` takes, uint8 [1, N, H // 2, W // 2], after ``forward``."""

    def recall(self, x: Tensor, code: Tensor | None) -> None:
        """Be as after ``forward(x, differentiable=True)``.

        Args:
            x: as of ``forward``; it is overwritten before ``backward``.
            code: of the same window.
        """

    def backward(
        self, above: Tensor | None, taps: Mapping[str, Tap], tile: Tile, into: Tensor
    ) -> None:
        """Write the gradient of the window's input.

        Args:
            above: gradient of the output of ``forward`` by the blocks above; it is not changed.
            taps: layer -> its losses' gradient in the window.
            tile: that the window is of.
            into: [1, N_in, h, w], of the tile's own positions.
        """

    def release(self) -> None:
        """Forget the window."""

    def free(self) -> None:
        """Forget memory that is kept for the next window, too."""
