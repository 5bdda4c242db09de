"""An engine on tiles: the whole picture's loss and gradient in the memory of a tile and few maps.

A style loss is of a Gram matrix of all positions, so no tile has a gradient before all tiles have
been summed. Two passes go through the network block by block (``stylebench.model.tiles``):

1. Forward. Gram matrices and content losses are summed over tiles. Of a block's maps only the last
   is kept, the next block's input, and the code of the pooling before it.
2. Backward, from the last block to the first. The window of a tile is computed again, and the
   gradient goes from the map after the block to the map before it.

A block that is one tile keeps its maps between the passes, and is computed but once.

Several processes have a band of every map each (``stylebench.processes.bands``). Before a block,
in both passes, they hand each other the rows of its halo; Gram matrices and losses are added up
between the passes. The rest is the same: a process alone has the only band, and nobody to tell.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
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
from stylebench.engines.tiled.sums import LayerSums, add_up
from stylebench.model.objective import Objective
from stylebench.model.precision import PRECISIONS, Precision, arithmetic
from stylebench.model.regions import Region, guidance_at, whole_picture
from stylebench.model.tiles import (
    Tile,
    Tiling,
    aligned_halo_of,
    empty_map,
    outermost,
    put_own,
    unit_of,
    widened,
)
from stylebench.model.vgg import VGG19
from stylebench.processes.bands import Bands, Rows, bands_of, fill_halo
from stylebench.processes.ranks import ALONE, Ranks

Visit = Callable[[str, Tensor, Tile, Rows], None]


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
        ranks: who compute it together; each has a band of the image, and of its gradient.

    Attributes:
        targets: as those of the engine of the same name; content features are of all rows that the
            process reads, and on the device.
        spoiled: [ranks], on the device: whose part of the last loss was not finite.
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
        ranks: Ranks = ALONE,
    ) -> None:
        self.objective = objective
        self.precision = precision
        self.tiling = tiling
        self.ranks = ranks
        self.spoiled: Tensor | None = None
        self._unit = unit_of(network.layers)
        self._bands = self._bands_of(content)
        self.rescaling = rescale_in_place(
            network, objective, content, styles, precision, tiling, regions, ranks
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
        """Loss terms and gradient at the preprocessed ``image`` [1, 3, H, W], fp32 or more.

        Image and gradient are the rows of this process; the loss is the whole picture's.
        """
        x, rows = self._entered(image, self._bands)
        gradient = torch.zeros_like(x)
        losses: dict[str, Tensor] = {}
        with arithmetic(self.precision):
            guides = {name: [r.guide for r in parts] for name, parts in self._regions.items()}
            sums = self._new_sums(guides) if self.objective.taps else {}
            inputs = self._forward(x, rows, sums) if sums else []
            tv = self._tv(x, rows.own) if self.objective.tv else image.new_zeros(())
            # oneDNN's ReLU turns NaN into 0: the loss of an image with NaN would be finite.
            tv, nothing, self.spoiled = add_up(sums, tv, 0 * image.sum(), self._bands.ranks)
            if sums:
                taps = {layer: self._tap(layer, sums[layer], losses, image) for layer in sums}
                self._backward(inputs, taps, gradient)
            if self.objective.tv:
                sk.tv_loss_backward_(gradient, x, self.objective.tv, self.objective.tv_kind)
                if self.objective.seamless:
                    add_gradient_of_seam_(gradient, x, self.objective.tv, self.objective.tv_kind)
        losses["tv"] = tv
        values = torch.stack([losses[name] for name in self.objective.terms])
        values = self.rescaling.unscale(values) + nothing
        if not self._bands.ranks.alone:
            gradient = gradient[:, :, rows.own].contiguous()
        return LossTerms(self.objective.terms, values), gradient

    def _tv(self, x: Tensor, own: slice) -> Tensor:
        """The total variation of the rows ``own`` of an image [1, 3, H, W]."""
        weight, kind = self._rescaled_objective.tv, self.objective.tv_kind
        below = x[:, :, own.stop : own.stop + 1]  # a step down belongs to the row above it
        loss = sk.tv_loss(x[:, :, own.start : own.stop + 1], weight, kind)
        if self.objective.seamless:
            loss += tv_of_seam(x, weight, kind)
        return loss - sk.tv_loss(below, weight, kind) if below.shape[2] else loss

    def _forward(self, x: Tensor, rows: Rows, sums: Mapping[str, LayerSums]) -> list[_Input]:
        """The first pass: the input of every block; ``sums`` of all layers are filled."""
        objective, P = self._rescaled_objective, self.targets.content

        def add(layer: str, F: Tensor, tile: Tile, _: Rows) -> None:
            pooled = layer.startswith("pool")
            own = tile.own(F, pooled)
            if layer in objective.style:
                sums[layer].add_features(own, tile, pooled)
            if layer in objective.content:
                target = tile.place(P[layer], pooled)
                sums[layer].add_content_loss(own, target, objective.content[layer])

        return list(self._run(x, rows, self._bands.ranks, add, keep=True))

    def _backward(self, inputs: list[_Input], taps: Mapping[str, Tap], gradient: Tensor) -> None:
        """The second pass: write ``gradient`` [1, 3, H, W], and consume ``inputs``."""
        above: Tensor | None = None
        while inputs:
            block, x, code, rows = inputs.pop()
            tiles = self._tiles(block, x, rows)
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
            if inputs:
                read = inputs[-1].rows.pooled()
                above = read.part(into, of=rows)
                fill_halo(above, read, self._bands.ranks)

    def _gradient_map(self, x: Tensor, before: Sequence[_Input]) -> Tensor:
        """Memory for the gradient of a block's input ``x``, which is that of ``x`` itself.

        But where the block before is not cut, whose own maps it may be one of.
        """
        block, of_block, _, rows = before[-1]
        cut = len(self._tiles(block, of_block, rows)) > 1
        return x if cut else empty_map(x, *x.shape[2:])

    def _run(
        self, x: Tensor, rows: Rows, ranks: Ranks, visit: Visit, *, keep: bool = False
    ) -> Iterator[_Input]:
        """Send an image through all blocks, and tell of the input of each.

        Args:
            x: preprocessed, of ``_entered``.
            rows: of it.
            ranks: who compute it together.
            visit: called with every tap's layer, the window's features, the tile and its map's
                rows.
            keep: whether a second pass follows.
        """
        for block, after in zip_longest(self._blocks, self._blocks[1:]):
            following = rows.pooled()
            following = following.reading(aligned_halo_of(after.layers)) if after else following
            tiles = self._tiles(block, x, rows)
            output: Tensor | None
            code: Tensor | None = None
            if len(tiles) == 1:
                output = whole = self._run_whole(block, x, tiles[0], visit, keep, rows)
                if after and not ranks.alone:
                    output = _put_output(None, whole, tiles[0], rows, following)
            else:
                output, code = self._run_tiles(block, x, tiles, visit, rows, following)
            yield _Input(block, x, code, rows)
            if after:
                assert output is not None
                x, rows = output, following
                fill_halo(x, rows, ranks)

    def _run_whole(
        self, block: Block, x: Tensor, tile: Tile, visit: Visit, keep: bool, rows: Rows
    ) -> Tensor:
        """The output of a block that is not cut, and keeps its maps for the second pass."""
        output = block.forward(tile.window(x), differentiable=keep)
        for layer, F in block.features():
            visit(layer, F, tile, rows)
        if not keep:
            block.release()
        pools = block.layers[-1].startswith("pool")
        return put_own(None, output, tile, pooled=True) if tile.wraps and pools else output

    def _run_tiles(
        self,
        block: Block,
        x: Tensor,
        tiles: Sequence[Tile],
        visit: Visit,
        rows: Rows,
        following: Rows,
    ) -> tuple[Tensor | None, Tensor | None]:
        """The output and the code of a block that ends in a pooling, put together."""
        output: Tensor | None = None
        codes: Tensor | None = None
        for tile in tiles:
            y = block.forward(tile.window(x), differentiable=False)
            for layer, F in block.features():
                visit(layer, F, tile, rows)
            if block.layers[-1].startswith("pool"):
                output = _put_output(output, y, tile, rows, following)
                code, edge = block.code(), outermost(tile, rows.own)
                codes = None if code is None else put_own(codes, code, edge, pooled=True)
            block.release()
        block.free()
        return output, codes

    def _tiles(self, block: Block, x: Tensor, rows: Rows) -> list[Tile]:
        height, width = x.shape[2:]
        return self.tiling.tiles(block.layers, height, width, self._wraps, rows.own)

    def _bands_of(self, image: Tensor) -> Bands:
        return bands_of(self.ranks, image.shape[2], self._unit)

    def _entered(self, band: Tensor, bands: Bands) -> tuple[Tensor, Rows]:
        """The rows of an image that the first block reads, of those of each process."""
        first = self._blocks[0].layers if self._blocks else ("conv1_1",)
        rows = bands.rows.reading(aligned_halo_of(first))
        return widened(band, rows, bands.ranks), rows

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
        sums, bands = self._new_sums(guides), self._bands_of(style)

        def add(layer: str, F: Tensor, tile: Tile, _: Rows) -> None:
            if layer in self.objective.style:
                pooled = layer.startswith("pool")
                sums[layer].add_features(tile.own(F, pooled), tile, pooled)

        if self.objective.style:
            for _ in self._run(*self._entered(bands.own(style), bands), bands.ranks, add):
                pass
        nothing = style.new_zeros(())
        add_up(sums, nothing, nothing, bands.ranks)
        grams = {
            layer: [
                region.style_weights[image] * total.gram(style)
                for region, total in zip(regions, sums[layer].grams, strict=True)
            ]
            for layer in self.objective.style
        }
        return {layer: self.ranks.of_first(torch.cat(parts)) for layer, parts in grams.items()}

    def _content_features(self, image: Tensor) -> dict[str, Tensor]:
        """Features of every content layer, of all tiles together."""
        P: dict[str, Tensor] = {}
        scales = {layer: sums.channel_scale for layer, sums in self._new_sums({}).items()}
        bands = self._bands

        def put(layer: str, F: Tensor, tile: Tile, rows: Rows) -> None:
            if layer in self.objective.content:
                wide = equalized(F, scales[layer]).to(self.precision.wide)
                edge = outermost(tile, rows.own)
                P[layer] = put_own(P.get(layer), wide, edge, layer.startswith("pool"))

        if self.objective.content:
            for _ in self._run(*self._entered(bands.own(image), bands), bands.ranks, put):
                pass
        return {layer: P[layer] for layer in self.objective.content}


class _Input(NamedTuple):
    """A block, its input [1, N, H, W], if it is cut its code, and the rows of them."""

    block: Block
    x: Tensor
    code: Tensor | None
    rows: Rows


def _put_output(
    output: Tensor | None, y: Tensor, tile: Tile, rows: Rows, following: Rows
) -> Tensor:
    """Copy a tile's output ``y`` into the next block's input, which has the rows ``following``."""
    if output is None:
        output = empty_map(y, following.held, tile.size(pooled=True)[1])
    put_own(rows.pooled().part(output, of=following), y, tile, pooled=True)
    return output


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
