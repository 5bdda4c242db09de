"""Exact rescaling by powers of two, so that a whole run fits into fp16's narrow range.

VGG is positively homogeneous: a ReLU and a pooling commute with a positive factor, so channel j of
a layer may be divided by 2^e_j if the next layer's weights for it are multiplied by 2^e_j. A power
of two changes no bit of a mantissa: every product and every sum is rounded as before, and so is the
loss, with the powers of two moved into its coefficients::

    F' = 2^-e F    P' = 2^-e P    c' = 2^2e c    G' = 2^-2e G    A' = 2^-2e A    k' = 2^4e k

Here e is one number a layer, the largest of its channels'. Where channels differ and a loss is
taken, features and Gram matrices are first multiplied by what is left, ``Rescaling.channel_scale``. The loss
as a whole is multiplied by one more power of two, so that gradients do not vanish either.
``stylebench.engines.fp16_calibration`` chooses the exponents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import ldexp

import torch
from torch import Tensor, nn

from stylebench.model.objective import Objective
from stylebench.model.precision import in_fp64
from stylebench.model.vgg import CONVOLUTIONS, LAYERS, VGG19


@dataclass(frozen=True)
class Rescaling:
    """Exponents of two for one network and one loss; all zero, and so no change, by default.

    Attributes:
        image: the network is given the image times 2^-image.
        channels: convolution -> exponent e_j of each output channel.
        loss: the loss, and with it every gradient, is multiplied by 2^loss.
    """

    image: int = 0
    channels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    loss: int = 0

    def apply(self, network: VGG19) -> None:
        """Exchange the weights of ``network`` for rescaled ones; the old tensors stay as they are.

        Raises:
            KeyError: no exponents for one of its convolutions.
        """
        incoming: tuple[int, ...] = (self.image,) * 3
        for name, layer in network.layers.items():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                outgoing = self.channels[name]
                weight, bias = in_fp64(layer.weight), in_fp64(layer.bias)
                inputs = _powers(incoming).to(weight.device)
                outputs = _powers(-e for e in outgoing).to(weight.device)
                weight = weight * inputs.view(1, -1, 1, 1) * outputs.view(-1, 1, 1, 1)
                bias = bias * outputs
                layer.weight = nn.Parameter(_like(layer.weight, weight), requires_grad=False)
                layer.bias = nn.Parameter(_like(layer.bias, bias), requires_grad=False)
                incoming = outgoing

    def objective(self, objective: Objective) -> Objective:
        """The coefficients that give 2^loss times the loss, from even features and targets."""
        content, style = (
            {
                layer: ldexp(weight, degree * self._exponent(layer) + self.loss)
                for layer, weight in weights.items()
            }
            for degree, weights in ((2, objective.content), (4, objective.style))
        )
        return replace(objective, content=content, style=style, tv=ldexp(objective.tv, self.loss))

    def scale_input(self, image: Tensor) -> Tensor:
        """The image as the network is given it."""
        return image * 2.0**-self.image if self.image else image

    def unscale_grad(self, gradient: Tensor) -> Tensor:
        """The gradient by what ``scale_input`` gave, times 2^loss -> by the image itself."""
        exponent = self.image + self.loss
        return gradient * 2.0**-exponent if exponent else gradient

    def unscale(self, x: Tensor) -> Tensor:
        """Loss terms, or the gradient by the image, without the 2^loss in them."""
        return x * 2.0**-self.loss if self.loss else x

    def channel_scale(self, layer: str, like: Tensor) -> Tensor | None:
        """Factors [N] of the channels of ``layer`` that leave them all divided by the same 2^e.

        None where all channels are already, so that there is nothing to do.
        """
        exponents = self.channels.get(convolution_of(layer), (0,))
        if len(set(exponents)) == 1:
            return None
        return _like(like, _powers(e - max(exponents) for e in exponents))

    def _exponent(self, layer: str) -> int:
        return max(self.channels.get(convolution_of(layer), (0,)))


def equalized(features: Tensor, factors: Tensor | None) -> Tensor:
    """Features [1, N, H, W] with one exponent for all channels, by ``Rescaling.channel_scale``'s factors."""
    return features if factors is None else features * factors.view(1, -1, 1, 1)


def convolution_of(layer: str) -> str:
    """The convolution that gives ``layer`` its scale: itself, or the last one before it."""
    before = list(LAYERS)[: list(LAYERS).index(layer) + 1]
    return next(name for name in reversed(before) if name in CONVOLUTIONS)


def _powers(exponents: Iterable[int]) -> Tensor:
    """2^e, fp64, by ``ldexp``: a vectorised pow may be an ulp off. On the CPU: it has fp64."""
    return torch.tensor([ldexp(1.0, exponent) for exponent in exponents], dtype=torch.float64)


def _like(like: Tensor, x: Tensor) -> Tensor:
    """Fp64 ``x`` in the dtype and on the device of ``like``, rounded before it goes."""
    return x.to(like.dtype).to(like.device)
