"""An engine on tiles: the whole picture's loss and gradient in the memory of a tile and few maps.

A style loss is of a Gram matrix of all positions, so no tile has a gradient before all tiles have
been summed. Two passes go through the network block by block (``stylebench.model.tiles``):

1. Forward. Gram matrices and content losses are summed over tiles. Of a block's maps only the last
   is kept, the next block's input, and the code of the pooling before it.
2. Backward, from the last block to the first. The window of a tile is computed again, and the
   gradient goes from the map after the block to the map before it.

A block that is one tile keeps its maps between the passes, and is computed but once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

import stylekernels as sk
from stylebench.engines.base import LossTerms, Targets
from stylebench.engines.fp16_calibration import rescale_in_place
from stylebench.engines.fp16_scaling import equalized
from stylebench.engines.fused.guided import Guide, GuidedTap, region_losses
from stylebench.engines.fused.tap import Tap
from stylebench.engines.heap import malloc_trim
from stylebench.engines.seam import add_gradient_of_seam_, tv_of_seam
from stylebench.engines.tiled.block import Block
from stylebench.engines.tiled.overwriting import Overwriting
from stylebench.engines.tiled.sums import LayerSums
from stylebench.model.objective import Objective
from stylebench.model.precision import PRECISIONS, Precision, arithmetic
from stylebench.model.regions import Region, guidance_at, whole_picture
from stylebench.model.tiles import Tile, Tiling, empty_map, put_own
from stylebench.model.vgg import VGG19

Visit = Callable[[str, Tensor, Tile], None]


class Tiled(ABC):
    """Gatys' loss and gradient of the whole picture, computed in tiles.

    Args:
        network: VGG-19 in fp32; it is rescaled and converted in place.
        objective: the coefficients of the loss.
        content: preprocessed content image [1, 3, H, W].
        styles: preprocessed style images [1, 3, H', W'], of any sizes.
        style_weights: one weight per style image, adding up to 1.
        precision: of features and weights; losses and Gram matrices are at least fp32.
        tiling: the size of tiles, of the style images' too.
        regions: parts of the picture with styles of their own; none: the whole has one style.

    Attributes:
        targets: as those of the engine of the same name; content features are whole and on the
            device.
    """

    name: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]
    _wraps = False  # the picture in work

    def __init__(
        self,
        network: VGG19,
        objective: Objective,
        content: Tensor,
        styles: Sequence[Tensor],
        style_weights: Sequence[float],
        precision: Precision = PRECISIONS["fp32"],
        tiling: Tiling = Tiling(2048),  # noqa: B008  # frozen
        regions: Sequence[Region] = (),
    ) -> None:
        self.objective = objective
        self.precision = precision
        self.tiling = tiling
        self.rescaling = rescale_in_place(
            network, objective, content, styles, precision, tiling, regions
        )
        self._rescaled_objective = self.rescaling.objective(objective)
        self._blocks = self._build_blocks(network, content)
        self.targets = self._capture(content, styles, regions or [whole_picture(style_weights)])
        self._regions = region_losses(self.targets, self._rescaled_objective.style)
        malloc_trim()

    @abstractmethod
    def _build_blocks(self, network: VGG19, content: Tensor) -> Sequence[Block]:
        """The blocks of the rescaled ``network``, which may be taken apart."""

    @torch.no_grad()
    def retarget(self, content: Tensor) -> None:
        """As ``Engine.retarget``."""
        with arithmetic(self.precision):
            for layer, P in self._content_features(content).items():
                self.targets.content[layer].copy_(P)

    @torch.no_grad()
    def loss_and_grad(self, image: Tensor) -> tuple[LossTerms, Tensor]:
        """Loss terms and gradient at the preprocessed ``image`` [1, 3, H, W], fp32 or more."""
        gradient = torch.zeros_like(image)
        losses: dict[str, Tensor] = {}
        with arithmetic(self.precision):
            if self.objective.taps:
                sums = self._new_sums(
                    {name: [r.guide for r in regions] for name, regions in self._regions.items()}
                )
                inputs = self._forward(image, sums)
                taps = {layer: self._tap(layer, sums[layer], losses, image) for layer in sums}
                self._backward(inputs, taps, gradient)
            if self.objective.tv:
                kind = self.objective.tv_kind
                losses["tv"] = sk.tv_loss(image, self._rescaled_objective.tv, kind)
                sk.tv_loss_backward_(gradient, image, self.objective.tv, kind)
                if self.objective.seamless:
                    losses["tv"] += tv_of_seam(image, self._rescaled_objective.tv, kind)
                    add_gradient_of_seam_(gradient, image, self.objective.tv, kind)
        values = torch.stack([losses[name] for name in self.objective.terms])
        # oneDNN's ReLU turns NaN into 0: the loss of an image with NaN would be finite.
        values = self.rescaling.unscale(values) + 0 * image.sum()
        return LossTerms(self.objective.terms, values), gradient

    def _forward(self, image: Tensor, sums: Mapping[str, LayerSums]) -> list[_Input]:
        """The first pass: the input of every block; ``sums`` of all layers are filled."""
        objective, P = self._rescaled_objective, self.targets.content

        def add(layer: str, F: Tensor, tile: Tile) -> None:
            pooled = layer.startswith("pool")
            own = tile.own(F, pooled)
            if layer in objective.style:
                sums[layer].add_features(own, tile, pooled)
            if layer in objective.content:
                target = tile.place(P[layer], pooled)
                sums[layer].add_content_loss(own, target, objective.content[layer])

        return list(self._run(image, add, keep=True))

    def _backward(self, inputs: list[_Input], taps: Mapping[str, Tap], gradient: Tensor) -> None:
        """The second pass: write ``gradient`` [1, 3, H, W], and consume ``inputs``."""
        above: Tensor | None = None
        while inputs:
            block, x, code = inputs.pop()
            tiles = self._tiles(block, x)
            into = self._gradient_map(x, inputs) if inputs else gradient
            writer = Overwriting(into, tiles)
            of_block = {layer: tap for layer, tap in taps.items() if layer in block.layers}
            for index, tile in enumerate(tiles):
                if len(tiles) > 1:
                    block.recall(tile.window(x), _window(code, tile))
                writer.read(index + 1)
                in_window = {layer: _tap_in(tile, layer, tap) for layer, tap in of_block.items()}
                block.backward(_window(above, tile), in_window, tile, writer.place(index))
                block.release()
            writer.read(len(tiles))
            if len(tiles) > 1:
                block.free()
            above = into

    def _gradient_map(self, x: Tensor, before: Sequence[_Input]) -> Tensor:
        """Memory for the gradient of a block's input ``x``, which is that of ``x`` itself.

        But where the block before is not cut, whose own maps it may be one of.
        """
        block, of_block, _ = before[-1]
        cut = len(self._tiles(block, of_block)) > 1
        return x if cut else empty_map(x, *x.shape[2:])

    def _run(self, image: Tensor, visit: Visit, *, keep: bool = False) -> Iterator[_Input]:
        """Send ``image`` through all blocks, and tell of the input of each.

        Args:
            image: preprocessed [1, 3, H, W].
            visit: called with every tap's layer, the window's features and the tile.
            keep: whether a second pass follows.
        """
        x: Tensor | None = image
        for block in self._blocks:
            assert x is not None
            tiles = self._tiles(block, x)
            code: Tensor | None = None
            if len(tiles) == 1:
                output: Tensor | None = self._run_whole(block, x, tiles[0], visit, keep)
            else:
                output, code = self._run_tiles(block, x, tiles, visit)
            yield _Input(block, x, code)
            x = output

    def _run_whole(self, block: Block, x: Tensor, tile: Tile, visit: Visit, keep: bool) -> Tensor:
        """The output of a block that is not cut, and keeps its maps for the second pass."""
        output = block.forward(tile.window(x), differentiable=keep)
        for layer, F in block.features():
            visit(layer, F, tile)
        if not keep:
            block.release()
        pools = block.layers[-1].startswith("pool")
        return put_own(None, output, tile, pooled=True) if tile.wraps and pools else output

    def _run_tiles(
        self, block: Block, x: Tensor, tiles: Sequence[Tile], visit: Visit
    ) -> tuple[Tensor | None, Tensor | None]:
        """The output and the code of a block that ends in a pooling, put together."""
        output: Tensor | None = None
        codes: Tensor | None = None
        for tile in tiles:
            y = block.forward(tile.window(x), differentiable=False)
            for layer, F in block.features():
                visit(layer, F, tile)
            if block.layers[-1].startswith("pool"):
                output = put_own(output, y, tile, pooled=True)
                code = block.code()
                codes = None if code is None else put_own(codes, code, tile, pooled=True)
            block.release()
        block.free()
        return output, codes

    def _tiles(self, block: Block, x: Tensor) -> list[Tile]:
        height, width = x.shape[2:]
        return self.tiling.tiles(block.layers, height, width, self._wraps)

    def _new_sums(self, guides: Mapping[str, Sequence[Guide | None]]) -> dict[str, LayerSums]:
        """Sums of nothing, for every tap; of a layer without guides one Gram matrix."""
        return {
            layer: LayerSums(block.channel_scale(layer), guides.get(layer, (None,)))
            for block in self._blocks
            for layer in self.objective.taps
            if layer in block.layers
        }

    def _tap(self, layer: str, sums: LayerSums, losses: dict[str, Tensor], like: Tensor) -> Tap:
        """The tap of the whole map, with its slope; its losses are written to ``losses``."""
        objective = self._rescaled_objective
        content = None
        if layer in objective.content:
            losses[f"content {layer}"] = sums.content_loss(like)
            content = self.targets.content[layer], objective.content[layer]
        tap = Tap(None, content, sums.channel_scale)
        if layer in self._regions:
            solved = [
                (region, *total.style_loss(region.target, region.weight))
                for region, total in zip(self._regions[layer], sums.grams, strict=True)
            ]
            losses[f"style {layer}"] = sum((loss for _, loss, _ in solved), like.new_zeros(()))
            regions = [replace(region, slope=slope) for region, _, slope in solved]
            return GuidedTap(None, content, sums.channel_scale, regions=regions)
        if layer in objective.style:
            A, k = self.targets.style[layer], objective.style[layer]
            losses[f"style {layer}"], tap.slope = sums.grams[0].style_loss(A, k)
        return tap

    @torch.no_grad()
    def _capture(
        self, content: Tensor, styles: Sequence[Tensor], regions: Sequence[Region]
    ) -> Targets:
        with arithmetic(self.precision):
            A: dict[str, Tensor] = {}
            for image, style in enumerate(styles):
                for layer, G in self._style_grams(style, image, regions).items():
                    A[layer] = A.get(layer, 0) + G
            self._wraps = self.objective.seamless  # from here on; style images end at their borders
            guidance = guidance_at(regions, self.objective.style)
            return Targets(self._content_features(content), A, guidance)

    def _style_grams(
        self, style: Tensor, image: int, regions: Sequence[Region]
    ) -> dict[str, Tensor]:
        """As ``model.losses.style_grams``, of every style layer."""
        guides: dict[str, Sequence[Guide | None]] = {}
        for layer in self.objective.style:
            maps = (region.style_guidance(image, layer) for region in regions)
            guides[layer] = [None if T is None else Guide.of(T) for T in maps]
        sums = self._new_sums(guides)

        def add(layer: str, F: Tensor, tile: Tile) -> None:
            if layer in self.objective.style:
                pooled = layer.startswith("pool")
                sums[layer].add_features(tile.own(F, pooled), tile, pooled)

        if self.objective.style:
            for _ in self._run(style, add):
                pass
        return {
            layer: torch.cat(
                [
                    region.style_weights[image] * total.gram(style)
                    for region, total in zip(regions, sums[layer].grams, strict=True)
                ]
            )
            for layer in self.objective.style
        }

    def _content_features(self, image: Tensor) -> dict[str, Tensor]:
        """Features of every content layer, of all tiles together."""
        P: dict[str, Tensor] = {}
        scales = {layer: sums.channel_scale for layer, sums in self._new_sums({}).items()}

        def put(layer: str, F: Tensor, tile: Tile) -> None:
            if layer in self.objective.content:
                wide = equalized(F, scales[layer]).to(self.precision.wide)
                P[layer] = put_own(P.get(layer), wide, tile, layer.startswith("pool"))

        if self.objective.content:
            for _ in self._run(image, put):
                pass
        return {layer: P[layer] for layer in self.objective.content}


class _Input(NamedTuple):
    """A block, its input [1, N, H, W], and if it is cut its code."""

    block: Block
    x: Tensor
    code: Tensor | None


def _window(whole: Tensor | None, tile: Tile) -> Tensor | None:
    """What the tile reads of a map after the block's pooling."""
    return None if whole is None else tile.window(whole, pooled=True)


def _tap_in(tile: Tile, layer: str, tap: Tap) -> Tap:
    """The tap of what the tile reads."""
    pooled = layer.startswith("pool")
    if isinstance(tap, GuidedTap):
        tap = tap.within(tile.rows.window(pooled), tile.columns.window(pooled))
    if tap.content is None:
        return tap
    P, c = tap.content
    return replace(tap, content=(tile.window(P, pooled), c))
