"""The eager engine: plain PyTorch at any precision, as a careful user would write it.

Its error at a precision is the unit that the other engines' errors are measured in. With fp16 the
network is rescaled as in the fused engine: without that, fp16 often overflows, and an infinite
error is no unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from stylebench.engines.base import LossTerms, Targets
from stylebench.engines.fp16_calibration import rescale_in_place
from stylebench.engines.fp16_scaling import equalized
from stylebench.model.losses import loss_terms, style_grams
from stylebench.model.objective import Objective
from stylebench.model.precision import PRECISIONS, Precision, arithmetic
from stylebench.model.regions import Region, guidance_at, whole_picture
from stylebench.model.vgg import VGG19


class Eager:
    """Gatys' loss and gradient by autograd, with channels-last features in ``precision``.

    Args:
        network: VGG-19 in fp32; it is rescaled and converted in place.
        objective: the coefficients of the loss.
        content: preprocessed content image [1, 3, H, W].
        styles: preprocessed style images [1, 3, H', W'], of any sizes.
        style_weights: one weight per style image, adding up to 1.
        precision: of features and weights; losses and Gram matrices are at least fp32.
        regions: parts of the picture with styles of their own; none: the whole has one style.

    Raises:
        ValueError: an image is too small for the network.
    """

    name: ClassVar[str] = "eager"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "tf32", "bf16", "fp16", "fp64")

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
        self.objective = objective
        self.precision = precision
        self.rescaling = rescale_in_place(
            network, objective, content, styles, precision, regions=regions
        )
        self._rescaled_objective = self.rescaling.objective(objective)
        self._channel_scale = {
            layer: self.rescaling.channel_scale(layer, content) for layer in objective.taps
        }
        self.network = network.to(precision.dtype).to(memory_format=torch.channels_last)
        self.targets = self._capture(content, styles, regions or [whole_picture(style_weights)])
        self._terms = self._formulation()

    def loss_and_grad(self, image: Tensor) -> tuple[LossTerms, Tensor]:
        """Loss terms and gradient at the preprocessed ``image`` [1, 3, H, W], fp32 or more."""
        x = image.detach().requires_grad_()
        with arithmetic(self.precision):
            terms = self._terms(x)
            (gradient,) = torch.autograd.grad(terms.sum(), x)
        values, gradient = map(self.rescaling.unscale, (terms.detach(), gradient))
        return LossTerms(self.objective.terms, values), gradient.contiguous()

    @torch.no_grad()
    def retarget(self, content: Tensor) -> None:
        """As ``Engine.retarget``."""
        with arithmetic(self.precision):
            P = self._features(content, list(self.objective.content), self.objective.seamless)
            for layer, F in P.items():
                self.targets.content[layer].copy_(F)

    def _formulation(self) -> Callable[[Tensor], Tensor]:
        """The function from the image to its loss terms [terms]; ``Compiled`` compiles it."""
        return self._loss_terms

    def _loss_terms(self, x: Tensor) -> Tensor:
        features = self._features(x, self.objective.taps, self.objective.seamless)
        P, A, T = self.targets.content, self.targets.style, self.targets.guidance
        return loss_terms(x, features, self._rescaled_objective, P, A, T)

    def _features(
        self, x: Tensor, layers: Sequence[str], seamless: bool = False
    ) -> dict[str, Tensor]:
        x = self.rescaling.scale_input(x)
        x = x.to(self.precision.dtype, memory_format=torch.channels_last)
        features = self.network(x, layers, seamless)
        return {
            layer: equalized(F.to(self.precision.wide), self._channel_scale[layer])
            for layer, F in features.items()
        }

    @torch.no_grad()
    def _capture(
        self, content: Tensor, styles: Sequence[Tensor], regions: Sequence[Region]
    ) -> Targets:
        with arithmetic(self.precision):
            P = self._features(content, list(self.objective.content), self.objective.seamless)
            A: dict[str, Tensor] = {}
            for image, style in enumerate(styles):
                for layer, F in self._features(style, list(self.objective.style)).items():
                    A[layer] = A.get(layer, 0) + style_grams(F, image, layer, regions)
        return Targets(P, A, guidance_at(regions, self.objective.style))
