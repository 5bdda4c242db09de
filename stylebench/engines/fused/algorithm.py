"""One way to compute a layer's convolution, and what follows it.

An algorithm that can do both in one pass overrides the second.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

import stylekernels as sk
from stylekernels.ops.pointwise.cpu import mask_

POOL = {"average": sk.relu_avg_pool2d_forward, "max": sk.relu_max_pool2d_forward}


class Algorithm:
    """A convolution with frozen weights and padding 1, channels-last.

    Args:
        convolve: (x, above, below, relu) -> output; see ``Convolution``.
    """

    def __init__(self, convolve: Callable[[Tensor, bool, bool, bool], Tensor]) -> None:
        self._convolve = convolve

    def __call__(
        self, x: Tensor, above: bool, below: bool, relu: bool, into: Tensor | None = None
    ) -> Tensor:
        """[B, N_in, H, W] -> [B, N_out, H, W], in ``into`` if the algorithm can write there."""
        del into
        return self._convolve(x, above, below, relu)

    def masked(self, x: Tensor, above: bool, below: bool, mask: Tensor) -> Tensor:
        """The output where ``mask`` is above 0, else 0; in ``mask``'s memory if it can be."""
        return mask_(self(x, above, below, False), mask)

    def pooled(
        self,
        x: Tensor,
        above: bool,
        below: bool,
        pooling: str,
        into: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The output after ReLU and "average" or "max" pooling, and the code of its windows."""
        del into
        return POOL[pooling](self(x, above, below, True))
