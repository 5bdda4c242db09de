"""The loss of one run as numbers.

Every Gram-based variant of Gatys' algorithm is the same sum with other coefficients::

    loss = sum_l c_l |F_l - P_l|^2  +  sum_l k_l |G_l - A_l|^2  +  tv

F_l are the image's features (N channels x M positions), P_l the content image's, and G_l, A_l the
Gram matrices F F^T / M of the image and of the style images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

TotalVariation = Literal["l1", "l2"]
LayerWeights = Mapping[str, float]


@dataclass(frozen=True)
class Objective:
    """One run's loss: c_l and k_l by layer, and the total variation.

    Attributes:
        content: layer -> c_l, the factor of sum((F - P)^2).
        style: layer -> k_l, the factor of sum((G - A)^2), with G = F F^T / M.
        tv: factor of the total variation of the preprocessed image.
        tv_kind: ``l1`` or ``l2``.
    """

    content: LayerWeights
    style: LayerWeights
    tv: float = 0.0
    tv_kind: TotalVariation = "l1"

    @property
    def taps(self) -> tuple[str, ...]:
        """Every layer that a loss is taken at, content first."""
        return tuple(dict.fromkeys((*self.content, *self.style)))

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the loss terms, in the order that engines report them."""
        names = [f"content {layer}" for layer in self.content]
        names += [f"style {layer}" for layer in self.style]
        return tuple(names + ["tv"] * bool(self.tv))
