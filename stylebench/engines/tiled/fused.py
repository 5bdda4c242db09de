"""The fused engine's stages, block by block, on tiles."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from stylebench.engines.fused.engine import build_stages
from stylebench.engines.fused.image import ImageEdge
from stylebench.engines.fused.stage import InputGradient, OutputGradient, Stage
from stylebench.engines.fused.tap import Tap
from stylebench.engines.fused.tiling import row_tiles
from stylebench.engines.heap import malloc_trim
from stylebench.engines.tiled.engine import Tiled
from stylebench.model.precision import arithmetic
from stylebench.model.tiles import Tile, blocks
from stylebench.model.vgg import VGG19


class TiledFused(Tiled):
    """``Fused`` on tiles.

    A block that is cut keeps its poolings' codes, so that the convolution before a pooling, the
    larger part of the first blocks, is not computed again.
    """

    name: ClassVar[str] = "fused"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "fp32-direct", "tf32", "bf16", "fp16", "fp64")

    def _build_blocks(self, network: VGG19, content: Tensor) -> list[FusedBlock]:
        names = blocks(network.layers)
        with arithmetic(self.precision):  # algorithms are the whole picture's
            stages = build_stages(network, self.precision, content)
        malloc_trim()
        scales = {
            layer: self.rescaling.channel_scale(layer, content) for layer in self.objective.taps
        }
        channels = stages[0].convolution.padded_inputs
        edge = ImageEdge(self.precision, self.rescaling, channels)
        built: list[FusedBlock] = []
        for layers in names:
            count = sum(layer.startswith("conv") for layer in layers)
            built.append(FusedBlock(layers, stages[:count], scales, None if built else edge))
            stages = stages[count:]
        return built


class FusedBlock:
    """A ``Block`` of stages.

    Args:
        layers: names of its layers.
        stages: one a convolution.
        channel_scales: tapped layer -> factors, of all blocks.
        edge: of the first block.
    """

    def __init__(
        self,
        layers: Sequence[str],
        stages: Sequence[Stage],
        channel_scales: Mapping[str, Tensor | None],
        edge: ImageEdge | None = None,
    ) -> None:
        self.layers = tuple(layers)
        self._stages = stages
        self._channel_scales = channel_scales
        self._edge = edge

    def forward(self, x: Tensor, differentiable: bool) -> Tensor:
        """As ``Block.forward``."""
        del differentiable
        self._attach_plain()
        return self._run(self._stages, self._enter(x))

    def recall(self, x: Tensor, code: Tensor | None) -> None:
        """As ``Block.recall``."""
        self._attach_plain()
        *before, last = self._stages
        if code is None or last.is_tapped:
            self._run(self._stages, self._enter(x))
        else:
            last.recall(self._run(before, self._enter(x)), code)

    def features(self) -> Iterator[tuple[str, Tensor]]:
        """As ``Block.features``."""
        for stage in self._stages:
            for layer, _, features in stage.tapped():
                yield layer, features

    def channel_scale(self, layer: str) -> Tensor | None:
        """As ``Block.channel_scale``."""
        return self._channel_scales[layer]

    def code(self) -> Tensor | None:
        """As ``Block.code``."""
        last = self._stages[-1]
        return last.code if last.pool else None

    def backward(
        self, above: Tensor | None, taps: Mapping[str, Tap], tile: Tile, into: Tensor
    ) -> None:
        """As ``Block.backward``."""
        self._attach(taps)
        rows: OutputGradient | None = None if above is None else _Rows(above)
        gradient: InputGradient | None = None
        later: Stage | None = None
        for stage in reversed(self._stages):
            rows = gradient = stage.backward(rows)
            if later:  # all rows of its gradient have been read
                later.release()
            later = stage
        if gradient is None:
            into.zero_()
            return
        own, columns = tile.rows.own(pooled=False), tile.columns.own(pooled=False)
        width = tile.columns.last - tile.columns.first
        for start, stop in row_tiles(into.shape[2], width, gradient.convolution.inputs, into):
            rows_of = own.start + start, own.start + stop
            part = self._edge.leave(gradient, *rows_of) if self._edge else gradient(*rows_of)
            into[:, :, start:stop] = part[..., columns]

    def release(self) -> None:
        """As ``Block.release``."""
        for stage in self._stages:
            stage.release()

    def free(self) -> None:
        """As ``Block.free``."""
        for stage in self._stages:
            stage.free()

    def _enter(self, x: Tensor) -> Tensor:
        if self._edge:
            x, _ = self._edge.enter(x)  # the whole image has been checked
        return x.contiguous(memory_format=torch.channels_last)

    def _run(self, stages: Collection[Stage], x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        for stage in self._stages:
            stage.reserve(height, width, x)
        for stage in stages:
            x = stage.forward(x)
        return x

    def _attach_plain(self) -> None:
        """Have the tapped features kept, and no loss taken: a window's would be none."""
        self._attach(dict.fromkeys(self._channel_scales, Tap(None, None)))

    def _attach(self, taps: Mapping[str, Tap]) -> None:
        for stage in self._stages:
            stage.attach(taps.get)


class _Rows:
    """A gradient that is there already, as the ``OutputGradient`` of a block's last stage.

    Args:
        gradient: [1, N, H, W].
    """

    def __init__(self, gradient: Tensor) -> None:
        self._gradient = gradient

    def __call__(self, start: int, stop: int, into: Tensor | None = None) -> Tensor:
        """As ``OutputGradient``."""
        rows = self._gradient[:, :, start:stop]
        if into is None:
            return rows.clone(memory_format=torch.channels_last)  # a tap adds to it
        return into.copy_(rows)

    def masked(self, start: int, stop: int, mask: Tensor) -> Tensor:
        """As ``OutputGradient``."""
        raise NotImplementedError("the last stage of a block with a block above it ends in pooling")
