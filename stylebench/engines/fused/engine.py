"""The fused engine: forward and backward written out over VGG's chain, without autograd.

Features are channels-last, in the precision chosen. Losses, pooling and masks are stylekernels'
operators: Triton kernels on CUDA, PyTorch elsewhere. The engine mirrors ``reference`` term by term.
Gram matrices, losses, targets and the gradient of the image are fp32 or more at every precision.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor

import stylekernels as sk
from stylebench.engines.base import LossTerms, Targets
from stylebench.engines.fp16_calibration import rescale_in_place
from stylebench.engines.fp16_scaling import equalized
from stylebench.engines.fused.convolution import Convolution
from stylebench.engines.fused.guided import GuidedTap, region_losses, style_grams
from stylebench.engines.fused.image import HALF, ImageEdge
from stylebench.engines.fused.side import SideStream
from stylebench.engines.fused.stage import InputGradient, Stage
from stylebench.engines.fused.tap import Tap
from stylebench.engines.fused.tiling import row_tiles
from stylebench.engines.heap import malloc_trim
from stylebench.model.objective import Objective
from stylebench.model.precision import PRECISIONS, Precision, arithmetic
from stylebench.model.regions import Region, guidance_at, whole_picture
from stylebench.model.vgg import VGG19
from stylekernels.ops.conv.op import Workspace


class Fused:
    """Gatys' loss and gradient as one explicit forward pass and one backward pass.

    Args:
        network: VGG-19 in fp32; its layers are removed, so that no weight is in memory twice.
        objective: the coefficients of the loss.
        content: preprocessed content image [1, 3, H, W].
        styles: preprocessed style images [1, 3, H', W'], of any sizes.
        style_weights: one weight per style image, adding up to 1.
        precision: of features and weights; fp64 is for tests.
        regions: parts of the picture with styles of their own; none: the whole has one style.

    Raises:
        ValueError: the objective is seamless: see ``stylebench.engines.tiled``.

    Attributes:
        targets: captured by the same network at the same precision, and held in fp32 or more.
            Targets of a more precise network would pull the image towards features that this one
            cannot have.
        side: the stream of the losses, which no convolution waits for.
    """

    name: ClassVar[str] = "fused"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "fp32-direct", "tf32", "bf16", "fp16", "fp64")

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
        if objective.seamless:
            raise ValueError("a seamless image is computed in windows: take TILED['fused'], UNCUT")
        self.objective = objective
        self.precision = precision
        self.side = SideStream(content.device)
        self.rescaling = rescale_in_place(
            network, objective, content, styles, precision, regions=regions
        )
        self._rescaled_objective = self.rescaling.objective(objective)
        self._channel_scale = {
            layer: self.rescaling.channel_scale(layer, content) for layer in objective.taps
        }
        with arithmetic(precision):  # algorithms are timed as they will be used
            self._stages = build_stages(network, precision, content)
        first = self._stages[0].convolution if self._stages else None
        self._edge = ImageEdge(precision, self.rescaling, first.padded_inputs if first else 0)
        malloc_trim()  # the converted weights, before larger blocks are allocated behind them
        self.targets = self._capture(content, styles, regions or [whole_picture(style_weights)])
        self._regions = region_losses(self.targets, self._rescaled_objective.style)
        malloc_trim()  # the maps between the taps
        self._attach(self._tap)
        self._reserve(content)

    @torch.no_grad()
    def loss_and_grad(self, image: Tensor) -> tuple[LossTerms, Tensor]:
        """Loss terms and gradient at the preprocessed ``image`` [1, 3, H, W], fp32 or more."""
        with arithmetic(self.precision):
            losses, check = self._forward(image)
            self.side.join()  # the slopes are there, and the maps may be written over
            with self.side.fork():
                values = self._values(losses, image, check)
            gradient = self._backward(image)
            if self.objective.tv:
                kind = self.objective.tv_kind
                sk.tv_loss_backward_(gradient, image, self.objective.tv, kind)
            self.side.join()
        return LossTerms(self.objective.terms, *values), gradient

    @torch.no_grad()
    def retarget(self, content: Tensor) -> None:
        """As ``Engine.retarget``."""
        with arithmetic(self.precision):
            for layer, x in self._features(content, self.objective.content):
                self.targets.content[layer].copy_(equalized(x, self._channel_scale[layer]))
        self._attach(self._tap)
        self._reserve(content)

    def _values(
        self, losses: dict[str, Tensor], image: Tensor, check: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The loss terms, of the taps' ``losses`` and tv's in the order of names, and their sum."""
        if self.objective.tv:
            weight = self._rescaled_objective.tv
            losses["tv"] = sk.tv_loss(image, weight, self.objective.tv_kind)
        scaled = [losses[name] for name in self.objective.terms]
        return sk.loss_terms(scaled, self.rescaling.loss_factor, check)

    def _forward(self, image: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The forward pass: losses by term name, and the check of the image."""
        losses: dict[str, Tensor] = {}
        x, check = self._edge.enter(image)
        for stage in self._stages:
            x = stage.forward(x)
            if stage.is_tapped:
                with self.side.fork():
                    losses |= stage.losses()
        return losses, check

    def _backward(self, image: Tensor) -> Tensor:
        """The backward pass: gradient [1, 3, H, W] of the network's losses, without tv's."""
        rows: InputGradient | None = None
        later: Stage | None = None
        for stage in reversed(self._stages):
            rows = stage.backward(rows)
            if later:  # all rows of its gradient have been read
                later.release()
            later = stage
        if rows is None:
            return torch.zeros_like(image)
        height, width = image.shape[2:]
        tiles = row_tiles(height, width, self._stages[0].convolution.inputs, image)
        parts = [self._edge.leave(rows, *tile) for tile in tiles]
        self._stages[0].release()
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)

    @torch.no_grad()
    def _capture(
        self, content: Tensor, styles: Sequence[Tensor], regions: Sequence[Region]
    ) -> Targets:
        with arithmetic(self.precision):
            A: dict[str, Tensor] = {}
            for image, style in enumerate(styles):
                for layer, x in self._features(style, self.objective.style):
                    G = style_grams(x, image, layer, regions, self._channel_scale[layer])
                    A[layer] = A.get(layer, 0) + G
            # The content last: its maps have the size of the iterations', which reuse the memory.
            P = {
                layer: equalized(x, self._channel_scale[layer]).to(self.precision.wide, copy=True)
                for layer, x in self._features(content, self.objective.content)
            }
        return Targets(P, A, guidance_at(regions, self.objective.style))

    def _features(self, image: Tensor, layers: Collection[str]) -> Iterator[tuple[str, Tensor]]:
        """(layer, features [1, N, H, W]) of ``image``; features are valid until the next pair."""
        self._attach(lambda layer: Tap(None, None) if layer in layers else None)
        self._reserve(image)
        x, _ = self._edge.enter(image)
        for stage in self._stages:
            x = stage.forward(x)
            for layer, _, features in stage.tapped():
                yield layer, features
            stage.release()

    def _attach(self, tap: Callable[[str], Tap | None]) -> None:
        for stage in self._stages:
            stage.attach(tap)

    def _tap(self, layer: str) -> Tap | None:
        """The tap that takes the losses of ``layer``, or None without any."""
        objective = self._rescaled_objective
        k, c = objective.style.get(layer), objective.content.get(layer)
        if k is None and c is None:
            return None
        content = None if c is None else (self.targets.content[layer], c)
        v = self._channel_scale[layer]
        if layer in self._regions:
            return GuidedTap(None, content, v, regions=self._regions[layer])
        return Tap(None if k is None else (self.targets.style[layer], k), content, v)

    def _reserve(self, image: Tensor) -> None:
        """Allocate the memory that the maps of ``image`` are put together in."""
        height, width = image.shape[2:]
        like = image.new_empty(0, dtype=self.precision.dtype)
        for stage in self._stages:
            stage.reserve(height, width, like)
            if stage.pool:
                height, width = height // 2, width // 2


def build_stages(network: VGG19, precision: Precision, content: Tensor) -> list[Stage]:
    """Stages in ``precision``, from the layers of ``network``, which are removed from it.

    See ``ImageEdge`` for the first convolution's channels in half precision.
    """
    stages: list[Stage] = []
    dtype, workspace = precision.dtype, Workspace() if precision.winograd else None
    height, width = content.shape[-2:]
    for name in list(network.layers):
        layer = network.layers.pop(name)
        if isinstance(layer, torch.nn.Conv2d) and layer.bias is not None:
            weight, bias = layer.weight.detach().to(dtype), layer.bias.detach().to(dtype)
            if not stages and dtype in HALF:
                weight = torch.cat((weight, weight), dim=1)
            wanted = None if stages else content.shape[1]  # the image's gradient, of 3 channels
            convolution = Convolution(weight, bias, (height, width), workspace, wanted)
            stages.append(Stage(name.removeprefix("conv"), convolution, network.pooling))
        elif name.startswith("pool"):
            stages[-1].pool = name
            height, width = height // 2, width // 2
    return stages
