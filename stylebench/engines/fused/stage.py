"""One stage of VGG: a convolution, its ReLU, the pooling after it if any, and their taps.

Forward and backward go tile by tile (see ``tiling``). In between, a stage keeps the activations
after ReLU, which serve as masks and as taps' features. Of a pooled map it keeps one byte per
window, and the activations only where there is a tap. In the backward pass the gradient overwrites
the activation it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

import stylekernels as sk
from stylebench.engines.fused.algorithm import POOL
from stylebench.engines.fused.convolution import Convolution
from stylebench.engines.fused.tap import StyleRows, Tap
from stylebench.engines.fused.tiling import (
    Result,
    RowSource,
    TiledTensor,
    convolved,
    row_source,
    row_tiles,
)

_POOL_BACKWARD = {"average": sk.relu_avg_pool2d_backward, "max": sk.relu_max_pool2d_backward}


class OutputGradient(Protocol):
    """Rows of the gradient of a stage's output, whose memory may be written to."""

    def __call__(self, start: int, stop: int, into: Tensor | None = None) -> Tensor:
        """Rows ``start`` to ``stop`` [1, N, stop - start, W], written to ``into`` perhaps."""

    def masked(self, start: int, stop: int, mask: Tensor) -> Tensor:
        """Likewise, with 0 where ``mask``, the rows' activations, is off; over it perhaps."""


@dataclass(frozen=True)
class InputGradient:
    """Rows of the gradient of a convolution's input, computed when they are asked for.

    Attributes:
        convolution: the convolution.
        source: rows of the gradient of its output.
        height: of both.
        tap: rows of the tap between the two that is left to ``of_image``, if one is.
    """

    convolution: Convolution
    source: RowSource
    height: int
    tap: Callable[[int, int], StyleRows | None] | None = None

    def __call__(self, start: int, stop: int, into: Tensor | None = None) -> Tensor:
        """Rows ``start`` to ``stop`` [1, N, stop - start, W], written to ``into`` perhaps."""
        convolve = partial(self.convolution.backward, into=into)
        return convolved(convolve, self.source, start, stop, self.height)

    def masked(self, start: int, stop: int, mask: Tensor) -> Tensor:
        """Likewise, with 0 where ``mask``, the rows' activations, is off; over it perhaps."""
        convolve = partial(self.convolution.backward_masked, mask=mask)
        return convolved(convolve, self.source, start, stop, self.height)

    def of_image(self, start: int, stop: int, factor: float, dtype: torch.dtype) -> Tensor:
        """Likewise of the image, times ``factor``, contiguous and in ``dtype``."""

        def convolve(gradient: Tensor, above: bool, below: bool) -> Tensor:
            tap = self.tap(start - above, stop + below) if self.tap else None
            return self.convolution.image_gradient(gradient, above, below, factor, dtype, tap)

        return convolved(convolve, self.source, start, stop, self.height)


class Stage:
    """A convolution with its ReLU, and the pooling after it where a block ends.

    Attributes:
        name: "3_1" for conv3_1 and relu3_1.
        convolution: conv3_1 itself, with or without ReLU.
        pool: "pool3", or None.
        conv_tap: the tap at the convolution, before ReLU.
        relu_tap: the tap after ReLU.
        pool_tap: the tap after the pooling.
    """

    def __init__(self, name: str, convolution: Convolution, pooling: str) -> None:
        self.name = name
        self.convolution = convolution
        self.pool: str | None = None
        self.conv_tap: Tap | None = None
        self.relu_tap: Tap | None = None
        self.pool_tap: Tap | None = None
        self._pooling = pooling
        self._height = self._width = 0  # before the pooling
        self._tiles: list[tuple[int, int]] = []  # before the pooling
        self._pooled_tiles: list[tuple[int, int]] = []  # after it
        self._z = TiledTensor()  # the convolution's output [1, N, H, W]
        self._x = TiledTensor()  # after ReLU [1, N, H, W]
        self._y = TiledTensor()  # after the pooling [1, N, H // 2, W // 2]
        self._code = TiledTensor()  # uint8, shaped as y: mask and maximum of each window

    def reserve(self, height: int, width: int, like: Tensor) -> None:
        """Allocate the memory that this stage's maps are put together in.

        All at once, not between tiles: memory freed between them would leave gaps too small for
        the larger maps.

        Args:
            height: of the stage's input and of its maps before the pooling.
            width: likewise.
            like: any tensor of the maps' dtype and device.
        """
        outputs = self.convolution.outputs
        if len(row_tiles(height, width, outputs, like)) == 1:
            return
        if self.conv_tap:
            self._z.reserve(height, width, outputs, like)
        if self._keeps_activation:
            self._x.reserve(height, width, outputs, like)
        if self.pool:
            code = like.new_empty(0, dtype=torch.uint8)
            self._y.reserve(height // 2, width // 2, outputs, like)
            self._code.reserve(height // 2, width // 2, outputs, code)

    def forward(self, x: Tensor) -> Tensor:
        """Input [1, N_in, H, W] -> the next stage's input; what taps need is kept."""
        self._height, self._width = x.shape[2:]
        outputs = self.convolution.outputs
        self._tiles = row_tiles(self._height, self._width, outputs, x)
        self._pooled_tiles = row_tiles(self._height // 2, self._width // 2, outputs, x)
        for tile in self._tiles:
            if self.pool and not self.relu_tap and not self.conv_tap:
                self._put_pooled(*self._convolve_and_pool(x, tile), tile)
                continue
            part = self._activation(x, tile)
            if self.pool:
                self._put_pooled(*POOL[self._pooling](part), tile)
        y = (self._y if self.pool else self._x).whole
        if self.pool and not self.pool_tap:
            self._y.release()
        return y

    def _activation(self, x: Tensor, tile: tuple[int, int]) -> Tensor:
        """Rows of the map after ReLU [1, N, rows, W], put where they are kept."""
        kept = self._z if self.conv_tap else self._x
        place = kept.place(*tile, self._height)
        convolve = self.convolution.__call__ if self.conv_tap else self.convolution.relu
        part = self._convolved(partial(convolve, into=place), x, tile)
        kept.put(part, *tile, self._height)
        if self.conv_tap:
            part = part.relu()
            if self._keeps_activation:
                self._x.put(part, *tile, self._height)
        return part

    def _convolve_and_pool(self, x: Tensor, tile: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Rows of the pooled map [1, N, rows // 2, W // 2], and their code."""
        rows = self._pooled_rows(*tile)
        places = self._y.place(*rows), self._code.place(*rows)
        into = None if places[0] is None or places[1] is None else (places[0], places[1])
        convolve = partial(self.convolution.relu_pool, pooling=self._pooling, into=into)
        return self._convolved(convolve, x, tile)

    def _convolved(
        self, convolve: Callable[[Tensor, bool, bool], Result], x: Tensor, tile: tuple[int, int]
    ) -> Result:
        return convolved(convolve, row_source(x), *tile, self._height)

    def _put_pooled(self, y: Tensor, code: Tensor, tile: tuple[int, int]) -> None:
        rows = self._pooled_rows(*tile)
        self._y.put(y, *rows)
        self._code.put(code, *rows)

    @property
    def code(self) -> Tensor:
        """The code of the pooling's windows, uint8 [1, N, H // 2, W // 2], after ``forward``."""
        return self._code.whole

    def recall(self, x: Tensor, code: Tensor) -> None:
        """Take the place of ``forward``, where the backward pass needs the pooling's code alone.

        Args:
            x: the input that ``forward`` would have had.
            code: as it was after ``forward``; there is no tap at this stage.
        """
        self._height, self._width = x.shape[2:]
        height, width = code.shape[2:]
        self._pooled_tiles = row_tiles(height, width, self.convolution.outputs, x)
        self._code.put(code, 0, height, height)

    def attach(self, tap: Callable[[str], Tap | None]) -> None:
        """Replace the taps: ``tap`` maps a layer's name to its tap or None."""
        self.conv_tap, self.relu_tap = tap(f"conv{self.name}"), tap(f"relu{self.name}")
        self.pool_tap = tap(self.pool) if self.pool else None

    def tapped(self) -> Iterator[tuple[str, Tap, Tensor]]:
        """Layer, tap and features [1, N, H, W] of every tap, after ``forward``."""
        if self.conv_tap:
            yield f"conv{self.name}", self.conv_tap, self._z.whole
        if self.relu_tap:
            yield f"relu{self.name}", self.relu_tap, self._x.whole
        if self.pool_tap and self.pool:
            yield self.pool, self.pool_tap, self._y.whole

    @property
    def is_tapped(self) -> bool:
        """Whether a loss is taken anywhere in it."""
        return any(tap is not None for tap in (self.conv_tap, self.relu_tap, self.pool_tap))

    def losses(self) -> dict[str, Tensor]:
        """Loss by term name, of all taps, after ``forward``; maps are only read."""
        losses: dict[str, Tensor] = {}
        for layer, tap, x in self.tapped():
            losses |= tap.losses(x, layer)
        return losses

    def backward(self, above: OutputGradient | None) -> InputGradient | None:
        """Gradient of the stage's output -> gradient of its input; None stands for zero."""
        gradient = self._of_activation(above)
        if gradient is not None and self._leaves_tap:
            rows = row_source(gradient(0, self._height))
            return InputGradient(self.convolution, rows, self._height, self._style_rows)
        if self._keeps_activation or self.conv_tap:
            gradient = self._through_relu(gradient)
        if gradient is None:
            return None
        return InputGradient(self.convolution, gradient, self._height)

    def release(self) -> None:
        """Forget the maps that the backward pass needed."""
        for tiled in (self._z, self._x, self._y, self._code):
            tiled.release()

    def free(self) -> None:
        """Forget all maps, and the memory that is kept for those of the next iteration."""
        for tiled in (self._z, self._x, self._y, self._code):
            tiled.free()

    @property
    def _keeps_activation(self) -> bool:
        """Whether the map after ReLU is kept: a pooling's code has the mask in it."""
        return bool(self.relu_tap or not self.pool)

    @property
    def _leaves_tap(self) -> bool:
        """Whether the tap's gradient is left to the convolution: no map is written for it."""
        return (
            self.convolution.takes_tap
            and not self.pool
            and not self.conv_tap
            and self._style_rows(0, self._height) is not None
        )

    def _style_rows(self, start: int, stop: int) -> StyleRows | None:
        return self.relu_tap.style_rows(self._x.rows(start, stop)) if self.relu_tap else None

    def _pooled_rows(self, start: int, stop: int) -> tuple[int, int, int]:
        """Rows before the pooling -> (start, stop, height) after it."""
        return start // 2, stop // 2, self._height // 2

    def _of_activation(self, above: OutputGradient | None) -> RowSource | None:
        """Gradient of ReLU's output; already through ReLU, but where a tap masks it."""
        if self.pool:
            return self._through_pool(above)
        if above is None or self.relu_tap:
            return above
        return lambda start, stop: above.masked(start, stop, self._x.rows(start, stop))

    def _through_pool(self, above: OutputGradient | None) -> RowSource | None:
        """Gradient of the pooling's output -> gradient of the convolution's."""
        for start, stop in self._pooled_tiles:
            # A tap needs what the pooling gave; without one its memory is free.
            place = self._y.place(start, stop, self._height // 2) if not self.pool_tap else None
            part = above(start, stop, place) if above else None
            if self.pool_tap:
                y = self._y.rows(start, stop)
                part = self.pool_tap.add_gradient(part, y, False, slice(start, stop))
            if part is None:
                return None
            self._y.put(part, start, stop, self._height // 2)
        return self._unpooled_rows

    def _unpooled_rows(self, start: int, stop: int) -> Tensor:
        """Rows of the gradient before the pooling, computed from those after it."""
        first, last = start // 2, min((stop + 1) // 2, self._height // 2)
        height = max(stop, 2 * last) - 2 * first  # a last odd row is in no window
        pooled, code = self._y.rows(first, last), self._code.rows(first, last)
        part = _POOL_BACKWARD[self._pooling](pooled, code, height, self._width)
        return part[:, :, start - 2 * first : stop - 2 * first]

    def _through_relu(self, above: RowSource | None) -> RowSource | None:
        """Put the gradient of the convolution's output over the activations, tile by tile."""
        activations = self._z if self.conv_tap else self._x
        for start, stop in self._tiles:
            rows = slice(start, stop)
            part = above(start, stop) if above else None
            if self.relu_tap:
                part = self.relu_tap.add_gradient(part, self._x.rows(start, stop), True, rows)
            if self.conv_tap:
                part = self.conv_tap.add_gradient(part, self._z.rows(start, stop), False, rows)
            if part is None:
                return None
            activations.put(part, start, stop, self._height)
        return activations.rows
