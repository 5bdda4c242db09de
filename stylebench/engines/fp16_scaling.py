"""Rescaling of the network by powers of two, so that a whole run fits into fp16's range.

VGG is positively homogeneous: ReLU and pooling commute with a positive factor, so channel j of a
layer may be divided by 2^e_j if the next layer's weights for it are multiplied by 2^e_j. A power of
two changes no bit of a mantissa: every product and sum is rounded as before. The loss stays the
same with powers of two moved into its coefficients::

    F' = 2^-e F    P' = 2^-e P    c' = 2^2e c    G' = 2^-2e G    A' = 2^-2e A    k' = 2^4e k

Here e is one number per layer, the largest of its channels' exponents. Where channels differ and a
loss is taken, features are first multiplied by ``Rescaling.channel_scale``, which divides all of
them by the same 2^e. The whole loss is multiplied by one more power of two, so that gradients do
not underflow. ``stylebench.engines.fp16_calibration`` chooses the exponents.
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
        image: the network's input is the image times 2^-image.
        channels: convolution -> exponent e_j of each output channel.
        loss: the loss, and with it every gradient, is multiplied by 2^loss.
    """

    image: int = 0
    channels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    loss: int = 0

    def apply(self, network: VGG19) -> None:
        """Replace the weights of ``network`` by rescaled ones; the old tensors are not changed.

        Raises:
            KeyError: a convolution has no exponents.
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
        """Coefficients that give 2^loss times the loss, from ``equalized`` features and targets."""
        content, style = (
            {
                layer: ldexp(weight, degree * self._exponent(layer) + self.loss)
                for layer, weight in weights.items()
            }
            for degree, weights in ((2, objective.content), (4, objective.style))
        )
        return replace(objective, content=content, style=style, tv=ldexp(objective.tv, self.loss))

    @property
    def input_factor(self) -> float:
        """Factor from an image to the network's input."""
        return ldexp(1.0, -self.image)

    @property
    def gradient_factor(self) -> float:
        """Factor from the gradient of 2^loss times the loss by the input to the image's own."""
        return ldexp(1.0, -self.image - self.loss)

    @property
    def loss_factor(self) -> float:
        """Factor from 2^loss times the loss to the loss."""
        return ldexp(1.0, -self.loss)

    def scale_input(self, image: Tensor) -> Tensor:
        """The network's input for ``image`` [1, 3, H, W]."""
        return image * self.input_factor if self.image else image

    def unscale(self, x: Tensor) -> Tensor:
        """Loss terms, or a gradient by the image, divided by 2^loss."""
        return x * self.loss_factor if self.loss else x

    def channel_scale(self, layer: str, like: Tensor) -> Tensor | None:
        """Factors [N] for the channels of ``layer``, after which all are divided by the same 2^e.

        Args:
            layer: any layer of VGG-19.
            like: any tensor of the factors' dtype and device.

        Returns:
            Powers of two, or None where all channels have the same exponent already.
        """
        exponents = self.channels.get(convolution_of(layer), (0,))
        if len(set(exponents)) == 1:
            return None
        return _like(like, _powers(e - max(exponents) for e in exponents))

    def _exponent(self, layer: str) -> int:
        return max(self.channels.get(convolution_of(layer), (0,)))


def equalized(features: Tensor, channel_scale: Tensor | None) -> Tensor:
    """Features [1, N, H, W] times ``Rescaling.channel_scale`` [N]; None stands for ones."""
    return features if channel_scale is None else features * channel_scale.view(1, -1, 1, 1)


def convolution_of(layer: str) -> str:
    """The convolution whose output's scale ``layer`` has: itself, or the last one before it."""
    up_to_layer = list(LAYERS)[: list(LAYERS).index(layer) + 1]
    return next(name for name in reversed(up_to_layer) if name in CONVOLUTIONS)


def _powers(exponents: Iterable[int]) -> Tensor:
    """2^e, fp64 on the CPU, by ``ldexp``: a vectorized pow may be an ulp off."""
    return torch.tensor([ldexp(1.0, exponent) for exponent in exponents], dtype=torch.float64)


def _like(like: Tensor, x: Tensor) -> Tensor:
    """Fp64 ``x`` in the dtype and on the device of ``like``, rounded before it is moved."""
    return x.to(like.dtype).to(like.device)
