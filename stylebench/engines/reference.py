"""The reference engine: the paper in plain PyTorch, by autograd, in fp32 or fp64.

Every other engine is compared with it, so it is never optimized: it reads beside arXiv 1508.06576,
section "Methods".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from stylebench.engines.base import LossTerms, Targets
from stylebench.model.losses import loss_terms, style_grams
from stylebench.model.objective import Objective
from stylebench.model.precision import PRECISIONS, Precision, arithmetic
from stylebench.model.regions import Region, guidance_at, whole_picture
from stylebench.model.vgg import VGG19


class Reference:
    """Gatys' loss and its gradient by autograd.

    Args:
        network: VGG-19; it is converted to ``precision`` in place.
        objective: the coefficients of the loss.
        content: preprocessed content image [1, 3, H, W].
        styles: preprocessed style images [1, 3, H', W'], of any sizes.
        style_weights: one weight per style image, adding up to 1.
        precision: fp32, or fp64 for the oracle; images must have its dtype.
        regions: parts of the picture with styles of their own; none: the whole has one style.

    Raises:
        ValueError: an image is too small for the network.
    """

    name: ClassVar[str] = "reference"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "fp64")

    def __init__(
        self,
        network: VGG19,
        objective: Objective,
        content: Tensor,
        styles: Sequence[Tensor],
        style_weights: Sequence[float],
        precision: Precision = PRECISIONS["fp32"],
        regions: Sequence[Region] = (),
    ) -> None:
        self.network = network.to(precision.dtype)
        self.precision = precision
        self.objective = objective
        self.targets = self.capture(content, styles, regions or [whole_picture(style_weights)])

    @torch.no_grad()
    def capture(
        self, content: Tensor, styles: Sequence[Tensor], regions: Sequence[Region]
    ) -> Targets:
        """The targets: content features P, and weighted means A of the styles' Gram matrices.

        A weighted mean of targets gives the weighted mean of the losses, up to a constant. There
        is one A a region, of the parts of the styles that it takes its style from.
        """
        with arithmetic(self.precision):
            P = self.network(content, self.objective.content, self.objective.seamless)
            A: dict[str, Tensor] = {}
            for image, style in enumerate(styles):
                for layer, F in self.network(style, self.objective.style).items():
                    A[layer] = A.get(layer, 0) + style_grams(F, image, layer, regions)
        return Targets(P, A, guidance_at(regions, self.objective.style))

    @torch.no_grad()
    def retarget(self, content: Tensor) -> None:
        """As ``Engine.retarget``."""
        with arithmetic(self.precision):
            P = self.network(content, self.objective.content, self.objective.seamless)
            for layer, F in P.items():
                self.targets.content[layer].copy_(F)

    def loss_and_grad(self, image: Tensor) -> tuple[LossTerms, Tensor]:
        """Loss terms and gradient at the preprocessed ``image`` [1, 3, H, W]."""
        x = image.detach().requires_grad_()
        with arithmetic(self.precision):
            features = self.network(x, self.objective.taps, self.objective.seamless)
            P, A, T = self.targets.content, self.targets.style, self.targets.guidance
            terms = loss_terms(x, features, self.objective, P, A, T)
            (gradient,) = torch.autograd.grad(terms.sum(), x)
        return LossTerms(self.objective.terms, terms.detach()), gradient
