"""The objective: the coefficients of one run's loss.

Every Gram-based variant of Gatys' algorithm is the same sum with other coefficients::

    loss = sum_l c_l |F_l - P_l|^2  +  sum_l k_l |G_l - A_l|^2  +  tv

F_l are the image's features at layer l (N channels x M positions), P_l the content image's, G_l the
image's Gram matrix F F^T / M, and A_l the style images'. ``stylebench.model.presets`` gives the
coefficients, ``stylebench.model.losses`` the formulas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

TotalVariation = Literal["l1", "l2"]
LayerWeights = Mapping[str, float]


@dataclass(frozen=True)
class Objective:
    """The coefficients of one run's loss.

    Attributes:
        content: layer -> c_l, the factor of sum((F - P)^2).
        style: layer -> k_l, the factor of sum((G - A)^2), with G = F F^T / M.
        tv: factor of the total variation of the preprocessed image.
        tv_kind: ``l1`` = sum of |dx| + |dy|, ``l2`` = sum of dx^2 + dy^2.
        seamless: opposite borders of the image meet: its convolutions pad circularly, and its
            total variation wraps around. Style images end at their borders all the same.
    """

    content: LayerWeights
    style: LayerWeights
    tv: float = 0.0
    tv_kind: TotalVariation = "l1"
    seamless: bool = False

    @property
    def taps(self) -> tuple[str, ...]:
        """The layers that losses are taken at, content first."""
        return tuple(dict.fromkeys((*self.content, *self.style)))

    @property
    def factors(self) -> dict[str, float]:
        """Loss term -> its coefficient, in the order in which engines report the terms."""
        factors = {f"content {layer}": factor for layer, factor in self.content.items()}
        factors |= {f"style {layer}": factor for layer, factor in self.style.items()}
        return factors | ({"tv": self.tv} if self.tv else {})

    @property
    def terms(self) -> tuple[str, ...]:
        """The names of the loss terms, in the order in which engines report them."""
        return tuple(self.factors)
