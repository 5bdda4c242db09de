"""The engines of plain PyTorch, block by block, on tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from stylebench.engines.base import Targets
from stylebench.engines.compiled import Compiled, with_own_code
from stylebench.engines.eager import Eager
from stylebench.engines.fp16_scaling import equalized
from stylebench.engines.fused.tap import Tap
from stylebench.engines.reference import Reference
from stylebench.engines.tiled.engine import Tiled
from stylebench.model.regions import Region
from stylebench.model.tiles import Tile, blocks
from stylebench.model.vgg import VGG19


class TiledReference(Tiled):
    """``Reference`` on tiles."""

    name: ClassVar[str] = "reference"
    precisions: ClassVar[tuple[str, ...]] = Reference.precisions
    memory_format: ClassVar[torch.memory_format] = torch.contiguous_format

    def _build_blocks(self, network: VGG19, content: Tensor) -> list[AutogradBlock]:
        network.to(self.precision.dtype).to(memory_format=self.memory_format)
        built: list[AutogradBlock] = []
        for names in blocks(network.layers):
            taps = [layer for layer in names if layer in self.objective.taps]
            built.append(
                AutogradBlock(
                    {name: network.layers[name] for name in names},
                    {layer: self.rescaling.channel_scale(layer, content) for layer in taps},
                    self.precision.wide,
                    enter=self._same if built else self._enter,
                    leave=self._same if built else self.rescaling.unscale,
                )
            )
        return built

    def _enter(self, image: Tensor) -> Tensor:
        """The network's input for a window of the image [1, 3, H, W]."""
        x = self.rescaling.scale_input(image)
        return x.to(self.precision.dtype, memory_format=self.memory_format)

    def _same(self, x: Tensor) -> Tensor:
        return x


class TiledEager(TiledReference):
    """``Eager`` on tiles."""

    name: ClassVar[str] = "eager"
    precisions: ClassVar[tuple[str, ...]] = Eager.precisions
    memory_format: ClassVar[torch.memory_format] = torch.channels_last


class TiledCompiled(TiledEager):
    """``Compiled`` on tiles: two graphs for every block and shape of window."""

    name: ClassVar[str] = "compiled"

    def _capture(
        self, content: Tensor, styles: Sequence[Tensor], regions: Sequence[Region]
    ) -> Targets:
        targets = super()._capture(content, styles, regions)
        for block in self._blocks:
            if isinstance(block, AutogradBlock):
                block.compile(Compiled.backend)
        return targets


class AutogradBlock:
    """A ``Block`` that keeps autograd's graph of its window.

    Args:
        layers: by name, in order.
        channel_scales: tapped layer -> factors.
        wide: dtype of features where losses are taken.
        enter: applied to the input first.
        leave: applied to the gradient of the input last.
    """

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        channel_scales: Mapping[str, Tensor | None],
        wide: torch.dtype,
        enter: Callable[[Tensor], Tensor],
        leave: Callable[[Tensor], Tensor],
    ) -> None:
        self.layers = tuple(layers)
        self._modules = layers
        self._channel_scales = channel_scales
        self._wide = wide
        self._enter, self._leave = enter, leave
        self._outputs: Callable[[Tensor], tuple[Tensor, ...]] = self._plain_outputs
        self._window: tuple[Tensor, ...] = ()  # input, output and tapped features

    def compile(self, backend: str) -> None:
        """Have windows computed by torch.compile from here on."""
        compiled: dict[tuple[torch.Size, bool], Callable[[Tensor], tuple[Tensor, ...]]] = {}

        def outputs(x: Tensor) -> tuple[Tensor, ...]:
            kind = x.shape, x.requires_grad
            if kind not in compiled:
                own = with_own_code(self._plain_outputs)
                compiled[kind] = torch.compile(own, fullgraph=True, dynamic=False, backend=backend)
            return compiled[kind](x)

        self._outputs = outputs

    def forward(self, x: Tensor, differentiable: bool) -> Tensor:
        """As ``Block.forward``."""
        with torch.set_grad_enabled(differentiable):
            x = x.detach().requires_grad_(differentiable)
            self._window = x, *self._outputs(x)
        return self._window[1].detach()

    def recall(self, x: Tensor, code: Tensor | None) -> None:
        """As ``Block.recall``; of a copy, since autograd holds the window and it is overwritten."""
        del code
        self.forward(x.clone(), differentiable=True)

    def features(self) -> Iterator[tuple[str, Tensor]]:
        """As ``Block.features``, in fp32 or more."""
        features = (F.detach() for F in self._window[2:])
        return zip(self._channel_scales, features, strict=True)

    def channel_scale(self, layer: str) -> None:
        """None: ``features`` have it already."""
        del layer

    def code(self) -> None:
        """None: ``recall`` needs none."""

    def backward(
        self, above: Tensor | None, taps: Mapping[str, Tap], tile: Tile, into: Tensor
    ) -> None:
        """As ``Block.backward``."""
        x, y, *_ = self._window
        outputs = list(self._window[2:])
        gradients = [
            taps[layer].add_gradient(None, F, relu=False, rows=slice(None))
            for layer, F in self.features()
        ]
        if above is not None:
            outputs, gradients = [y, *outputs], [above, *gradients]
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(outputs, x, gradients)
        into.copy_(self._leave(tile.own(gradient)))

    def release(self) -> None:
        """As ``Block.release``."""
        self._window = ()

    def free(self) -> None:
        """As ``Block.free``: nothing is kept."""

    def _plain_outputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """The output, and the tapped features in fp32 or more, multiplied by their factors."""
        x = self._enter(x)
        features = []
        for name, layer in self._modules.items():
            x = layer(x)
            if name in self._channel_scales:
                features.append(equalized(x.to(self._wide), self._channel_scales[name]))
        return x, *features
