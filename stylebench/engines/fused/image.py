"""The edge of the fused engine's network: the image enters, and its gradient leaves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import stylekernels as sk
from stylebench.engines.fp16_scaling import Rescaling
from stylebench.engines.fused.stage import InputGradient
from stylebench.model.precision import Precision

HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class ImageEdge:
    """The edge of the network.

    In half precision the first convolution takes the image rounded and its rounding errors, as 6
    channels with the same weights: near the optimum the rounding of the image is half of the
    gradient's error, and a tensor core multiplies 8 channels in the time of 3.

    Attributes:
        precision: of the network.
        rescaling: of the network.
        channels: that the first convolution takes, zeros included.
    """

    precision: Precision
    rescaling: Rescaling
    channels: int

    def enter(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """[1, 3, H, W] -> the first convolution's input, and a check that its loss is to contain.

        oneDNN's ReLU turns NaN into 0: without the check the loss of an image with NaN would be
        finite.
        """
        parts = 2 if self.precision.dtype in HALF else 1
        factor = self.rescaling.input_factor
        return sk.network_input(
            image, factor, self.precision.dtype, parts=parts, channels=self.channels
        )

    def leave(self, rows: InputGradient, start: int, stop: int) -> Tensor:
        """The gradient of the first convolution's input -> of the image [1, 3, stop - start, W].

        Of the rounded image alone: the gradient of its rounding errors is the same.
        """
        return rows.of_image(start, stop, self.rescaling.gradient_factor, self.precision.wide)
