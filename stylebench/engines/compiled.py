"""The plain formulation at any precision, and the same under torch.compile.

Nothing is rewritten by hand. ``Plain`` is what a careful user of PyTorch would write, so its error
at a precision is what the other engines' errors are measured in; ``Compiled`` is what PyTorch's own
compiler makes of it, and so the speed that the fused engine has to beat. fp16 is rescaled here as
it is in the fused engine: a yardstick that is infinite, as fp16 often is without, measures nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FunctionType, MethodType
from typing import ClassVar

import torch
from torch import Tensor

from stylebench.calibrate import rescaled
from stylebench.engines.contract import LossTerms, Targets
from stylebench.losses import gram, loss_terms
from stylebench.network import VGG19
from stylebench.objective import Objective
from stylebench.precision import PRECISIONS, Precision, arithmetic
from stylebench.rescale import evened


class Plain:
    """Gatys' loss and gradient by autograd, channels-last, features in the precision chosen.

    Args:
        network: VGG-19 in fp32; it is converted in place.
        objective: the coefficients of the loss.
        content: preprocessed content image [1, 3, H, W].
        styles: preprocessed style images [1, 3, H', W'], of any sizes.
        blend: one weight a style image, adding up to 1.
        precision: of features and weights; losses and Gram matrices are at least fp32.
    """

    name: ClassVar[str] = "plain"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "tf32", "bf16", "fp16", "fp64")

    def __init__(
        self,
        network: VGG19,
        objective: Objective,
        content: Tensor,
        styles: Sequence[Tensor],
        blend: Sequence[float],
        precision: Precision = PRECISIONS["fp32"],
    ) -> None:
        self.objective = objective
        self.precision = precision
        self.rescaling = rescaled(network, objective, content, styles, precision)
        self._rescaled_objective = self.rescaling.objective(objective)
        self._factors = {name: self.rescaling.even(name, content) for name in objective.taps}
        self.network = network.to(precision.dtype).to(memory_format=torch.channels_last)
        self.targets = self._capture(content, styles, blend)
        self._terms = self._formulation()

    def loss_and_grad(self, image: Tensor) -> tuple[LossTerms, Tensor]:
        """Loss terms and gradient at the preprocessed ``image`` [1, 3, H, W], fp32 or more."""
        x = image.detach().requires_grad_()
        with arithmetic(self.precision):
            terms = self._terms(x)
            (gradient,) = torch.autograd.grad(terms.sum(), x)
        values, gradient = map(self.rescaling.descale, (terms.detach(), gradient))
        return LossTerms(self.objective.terms, values), gradient.contiguous()

    def _formulation(self) -> Callable[[Tensor], Tensor]:
        """The loss terms as a function of the image."""
        return self._loss_terms

    def _loss_terms(self, x: Tensor) -> Tensor:
        features = self._features(x, self.objective.taps)
        P, A = self.targets.content, self.targets.style
        return loss_terms(x, features, self._rescaled_objective, P, A)

    def _features(self, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        x = self.rescaling.enter(x)
        x = x.to(self.precision.dtype, memory_format=torch.channels_last)
        features = self.network(x, layers)
        return {
            name: evened(F.to(self.precision.wide), self._factors[name])
            for name, F in features.items()
        }

    @torch.no_grad()
    def _capture(
        self, content: Tensor, styles: Sequence[Tensor], blend: Sequence[float]
    ) -> Targets:
        with arithmetic(self.precision):
            P = self._features(content, list(self.objective.content))
            A: dict[str, Tensor] = {}
            for style, weight in zip(styles, blend, strict=True):
                for layer, features in self._features(style, list(self.objective.style)).items():
                    A[layer] = A.get(layer, 0) + weight * gram(features)
        return Targets(P, A)


class Compiled(Plain):
    """``Plain`` as two graphs, forward and backward, compiled at the first call.

    Attributes:
        backend: what torch.compile hands the graphs to.
    """

    name: ClassVar[str] = "compiled"
    backend: ClassVar[str] = "inductor"

    def _formulation(self) -> Callable[[Tensor], Tensor]:
        terms = _copied(self._loss_terms)
        return torch.compile(terms, fullgraph=True, dynamic=False, backend=self.backend)


def _copied(method: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The same method with a code object of its own.

    torch.compile counts what it compiled by code object, and at the ninth engine of a process, each
    with its own size or preset, it would refuse to go on.
    """
    assert isinstance(method, MethodType)
    code, names = method.__func__.__code__, method.__func__.__globals__
    return MethodType(FunctionType(code.replace(), names), method.__self__)
