"""The fused engine: forward and backward written out over VGG's chain, without autograd.

Channels-last, in the precision chosen, with stylekernels at the taps: on CUDA their Triton kernels,
elsewhere their code for CPUs. It mirrors ``reference`` term by term. Gram matrices, losses,
targets and the gradient of the image are fp32 whatever the precision is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor

import stylekernels as sk
from stylebench.engines.base import LossTerms, Targets
from stylebench.engines.fp16_calibration import rescaled
from stylebench.engines.fp16_scaling import equalized
from stylebench.engines.fused.convolution import Convolution
from stylebench.engines.fused.stage import Stage
from stylebench.engines.fused.tap import Tap, gram
from stylebench.engines.fused.tiling import RowSource, TiledTensor, row_tiles
from stylebench.engines.heap import malloc_trim
from stylebench.model.objective import Objective
from stylebench.model.precision import PRECISIONS, Precision, arithmetic
from stylebench.model.vgg import VGG19

HALF = (torch.float16, torch.bfloat16)


class Fused:
    """Gatys' loss and gradient as one explicit pass down and one back up.

    Args:
        network: VGG-19 in fp32; it is taken apart, so that no weight is there twice.
        objective: the coefficients of the loss.
        content: preprocessed content image [1, 3, H, W].
        styles: preprocessed style images [1, 3, H', W'], of any sizes.
        style_weights: one weight a style image, adding up to 1.
        precision: of features and weights; fp64 is there as an oracle.

    The targets are captured by the same network at the same precision, and held in fp32: captured
    by a more precise one, they would pull the image towards what this network cannot see.
    """

    name: ClassVar[str] = "fused"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "tf32", "bf16", "fp16", "fp64")

    def __init__(
        self,
        network: VGG19,
        objective: Objective,
        content: Tensor,
        styles: Sequence[Tensor],
        style_weights: Sequence[float],
        precision: Precision = PRECISIONS["fp32"],
    ) -> None:
        self.objective = objective
        self.precision = precision
        self.rescaling = rescaled(network, objective, content, styles, precision)
        self._rescaled_objective = self.rescaling.objective(objective)
        self._channel_scale = {
            layer: self.rescaling.channel_scale(layer, content) for layer in objective.taps
        }
        with arithmetic(precision):  # ways of convolving are measured as they will be used
            self._stages = _stages(network, precision.dtype, content)
        malloc_trim()  # of the weights that were converted, before memory is obtained beyond them
        self.targets = self._capture(content, styles, style_weights)
        malloc_trim()  # of what lay between the taps
        self._attach(self._tap)
        self._reserve(content)

    @torch.no_grad()
    def loss_and_grad(self, image: Tensor) -> tuple[LossTerms, Tensor]:
        """Loss terms and gradient at the preprocessed ``image`` [1, 3, H, W], fp32 or more."""
        with arithmetic(self.precision):
            losses = self._forward(image)
            gradient = self._backward(image)
            if self.objective.tv:
                kind = self.objective.tv_kind
                losses["tv"] = sk.tv_loss(image, self._rescaled_objective.tv, kind)
                sk.tv_loss_backward_(gradient, image, self.objective.tv, kind)
        values = torch.stack([losses[name] for name in self.objective.terms])
        # A ReLU that is a maximum makes 0 of NaN: the loss of a lost image would be finite.
        values = self.rescaling.unscale(values) + 0 * image.sum()
        return LossTerms(self.objective.terms, values), gradient

    def _forward(self, image: Tensor) -> dict[str, Tensor]:
        """Run down the chain; return the losses by term."""
        losses: dict[str, Tensor] = {}
        x = self._enter(image)
        for stage in self._stages:
            x, of_stage = stage.forward(x)
            losses |= of_stage
        return losses

    def _backward(self, image: Tensor) -> Tensor:
        """Run back up, adding each tap's gradient, to the gradient of the image."""
        rows: RowSource | None = None
        done: Stage | None = None
        for stage in reversed(self._stages):
            rows = stage.backward(rows)
            if done:  # all of its gradient has been asked for
                done.release()
            done = stage
        if rows is None:
            return torch.zeros_like(image)
        gradient = TiledTensor()
        height, width = image.shape[2:]
        for start, stop in row_tiles(height, width, self._stages[0].convolution.inputs, image):
            gradient.put(rows(start, stop), start, stop, height)
        self._stages[0].release()
        by_high = gradient.whole[:, : image.shape[1]]  # the low half's is the same
        return self.rescaling.unscale_grad(
            by_high.to(image.dtype, memory_format=torch.contiguous_format)
        )

    def _enter(self, image: Tensor) -> Tensor:
        """The image as the first convolution takes it: see ``_stages`` for its second half."""
        image = self.rescaling.scale_input(image)
        high = image.to(self.precision.dtype)
        if high.dtype in HALF:
            high = torch.cat((high, (image - high).to(high.dtype)), dim=1)
        return high.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def _capture(
        self, content: Tensor, styles: Sequence[Tensor], style_weights: Sequence[float]
    ) -> Targets:
        with arithmetic(self.precision):
            A: dict[str, Tensor] = {}
            for style, weight in zip(styles, style_weights, strict=True):
                for layer, x in self._features(style, self.objective.style):
                    A[layer] = A.get(layer, 0) + weight * gram(x, self._channel_scale[layer])
            # Last, so that its maps' memory is there for the iterations.
            P = {
                layer: equalized(x, self._channel_scale[layer]).to(self.precision.wide, copy=True)
                for layer, x in self._features(content, self.objective.content)
            }
        return Targets(P, A)

    def _features(self, image: Tensor, layers: Collection[str]) -> Iterator[tuple[str, Tensor]]:
        """Features of ``image`` at the named layers, each until the next is asked for."""
        self._attach(lambda layer: Tap(None, None) if layer in layers else None)
        self._reserve(image)
        x = self._enter(image)
        for stage in self._stages:
            x, _ = stage.forward(x)
            for layer, _, features in stage.tapped():
                yield layer, features
            stage.release()

    def _attach(self, tap: Callable[[str], Tap | None]) -> None:
        for stage in self._stages:
            stage.attach(tap)

    def _tap(self, layer: str) -> Tap | None:
        """The tap that takes the losses of ``layer``, if there are any."""
        objective = self._rescaled_objective
        k, c = objective.style.get(layer), objective.content.get(layer)
        if k is None and c is None:
            return None
        return Tap(
            None if k is None else (self.targets.style[layer], k),
            None if c is None else (self.targets.content[layer], c),
            self._channel_scale[layer],
        )

    def _reserve(self, image: Tensor) -> None:
        """Obtain the memory for the maps of ``image``."""
        height, width = image.shape[2:]
        like = image.new_empty(0, dtype=self.precision.dtype)
        for stage in self._stages:
            stage.reserve(height, width, like)
            if stage.pool:
                height, width = height // 2, width // 2


def _stages(network: VGG19, dtype: torch.dtype, content: Tensor) -> list[Stage]:
    """The layers of ``network``, which has none then, by convolution, with weights in ``dtype``.

    In half precision the image enters as what its rounding keeps and what it loses, side by side:
    near the optimum the rounding of the image is half of the gradient's error, and a tensor core
    multiplies 8 channels in the time of 3.
    """
    stages: list[Stage] = []
    height, width = content.shape[-2:]
    for name in list(network.layers):
        layer = network.layers.pop(name)
        if isinstance(layer, torch.nn.Conv2d) and layer.bias is not None:
            weight, bias = layer.weight.detach().to(dtype), layer.bias.detach().to(dtype)
            if not stages and dtype in HALF:
                weight = torch.cat((weight, weight), dim=1)
            convolution = Convolution(weight, bias, (height, width))
            stages.append(Stage(name.removeprefix("conv"), convolution, network.pooling))
        elif name.startswith("pool"):
            stages[-1].pool = name
            height, width = height // 2, width // 2
    return stages
