"""One stage of VGG, down and back up: a convolution, its ReLU, its pooling if any, and their taps.

Both ways go tile by tile (see ``tiling``). Between them a stage keeps activations after ReLU,
which are masks and taps, but of what was pooled only a byte a window, unless there is a tap. On the
way back the gradient takes the place of the activation it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

import stylekernels as sk
from stylebench.engines.fused.convolution import Convolution
from stylebench.engines.fused.tap import Tap
from stylebench.engines.fused.tiling import RowSource, TiledTensor, convolved, row_source, row_tiles
from stylekernels.ops.pointwise.cpu import mask_

POOL = {"average": sk.relu_avg_pool2d_forward, "max": sk.relu_max_pool2d_forward}
_POOL_BACKWARD = {"average": sk.relu_avg_pool2d_backward, "max": sk.relu_max_pool2d_backward}


class Stage:
    """A convolution with its ReLU, and the pooling after it where a block ends.

    Attributes:
        name: "3_1" for conv3_1 and relu3_1.
        convolution: theirs.
        pool: "pool3", or None.
        before: the tap at the convolution.
        after: the tap at the ReLU.
        pooled: the tap at the pooling.
    """

    def __init__(self, name: str, convolution: Convolution, pooling: str) -> None:
        self.name = name
        self.convolution = convolution
        self.pool: str | None = None
        self.before: Tap | None = None
        self.after: Tap | None = None
        self.pooled: Tap | None = None
        self._pool, self._pool_backward = POOL[pooling], _POOL_BACKWARD[pooling]
        self._height = self._width = 0  # before the pooling
        self._tiles: list[tuple[int, int]] = []  # before the pooling
        self._pooled_tiles: list[tuple[int, int]] = []  # after it
        self._z, self._x, self._y, self._code = (
            TiledTensor(),
            TiledTensor(),
            TiledTensor(),
            TiledTensor(),
        )

    def reserve(self, height: int, width: int, like: Tensor) -> None:
        """Obtain all memory that maps of this size will be put into tile by tile.

        At once, and not between tiles that come and go: memory freed there would not be found
        again by what is larger.
        """
        outputs = self.convolution.outputs
        if len(row_tiles(height, width, outputs, like)) == 1:
            return
        if self.before:
            self._z.reserve(height, width, outputs, like)
        if self._masked_by_activation:
            self._x.reserve(height, width, outputs, like)
        if self.pool:
            self._y.reserve(height // 2, width // 2, outputs, like)
            self._code.reserve(
                height // 2, width // 2, outputs, like.new_empty(0, dtype=torch.uint8)
            )

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Input [1, N_in, H, W] -> what the next stage takes, and the losses by term."""
        self._height, self._width = x.shape[2:]
        outputs = self.convolution.outputs
        self._tiles = row_tiles(self._height, self._width, outputs, x)
        self._pooled_tiles = row_tiles(self._height // 2, self._width // 2, outputs, x)
        convolve = self.convolution.__call__ if self.before else self.convolution.relu
        for tile in self._tiles:
            part = convolved(convolve, row_source(x), *tile, self._height)
            if self.before:
                self._z.put(part, *tile, self._height)
                part = part.relu()
            if self._masked_by_activation:
                self._x.put(part, *tile, self._height)
            if self.pool:
                part, code = self._pool(part)
                self._y.put(part, *self._windows(*tile))
                self._code.put(code, *self._windows(*tile))
        losses = self._losses()
        y = (self._y if self.pool else self._x).whole
        if self.pool and not self.pooled:
            self._y.release()
        return y, losses

    def attach(self, tap: Callable[[str], Tap | None]) -> None:
        """Exchange the taps for those that ``tap`` has for the layers' names."""
        self.before, self.after = tap(f"conv{self.name}"), tap(f"relu{self.name}")
        self.pooled = tap(self.pool) if self.pool else None

    def tapped(self) -> Iterator[tuple[str, Tap, Tensor]]:
        """Layer, tap and features [1, N, H, W] of each tap, once ``forward`` has been through."""
        if self.before:
            yield f"conv{self.name}", self.before, self._z.whole
        if self.after:
            yield f"relu{self.name}", self.after, self._x.whole
        if self.pooled and self.pool:
            yield self.pool, self.pooled, self._y.whole

    def backward(self, above: RowSource | None) -> RowSource | None:
        """Gradient by the stage's output -> that by its input; None stands for zero."""
        gradient = self._unpooled(above) if self.pool else above
        if self._masked_by_activation or self.before:
            gradient = self._through_relu(gradient)
        if gradient is None:
            return None
        source, height = gradient, self._height
        return lambda start, stop: convolved(self.convolution.backward, source, start, stop, height)

    def release(self) -> None:
        """Let go of what the way back needed."""
        for kept in (self._z, self._x, self._y, self._code):
            kept.release()

    @property
    def _masked_by_activation(self) -> bool:
        """Whether x itself is kept: a pooling's code has the mask in it."""
        return bool(self.after or not self.pool)

    def _windows(self, start: int, stop: int) -> tuple[int, int, int]:
        """Of rows before the pooling: the first and last after it, and how many there are."""
        return start // 2, stop // 2, self._height // 2

    def _losses(self) -> dict[str, Tensor]:
        """Term -> loss, of the taps there are."""
        losses: dict[str, Tensor] = {}
        for layer, tap, x in self.tapped():
            losses |= tap.losses(x, layer)
        return losses

    def _unpooled(self, above: RowSource | None) -> RowSource | None:
        """Gradient by the pooling's output -> that by the convolution's, rows by rows."""
        for start, stop in self._pooled_tiles:
            part = above(start, stop) if above else None
            if self.pooled:
                y = self._y.rows(start, stop)
                part = self.pooled.add_gradient(part, y, False, slice(start, stop))
            if part is None:
                return None
            self._y.put(part, start, stop, self._height // 2)
        return self._unpooled_rows

    def _unpooled_rows(self, start: int, stop: int) -> Tensor:
        first, last = start // 2, min((stop + 1) // 2, self._height // 2)
        height = max(stop, 2 * last) - 2 * first  # a last odd row is in no window
        pooled, code = self._y.rows(first, last), self._code.rows(first, last)
        part = self._pool_backward(pooled, code, height, self._width)
        return part[:, :, start - 2 * first : stop - 2 * first]

    def _through_relu(self, above: RowSource | None) -> RowSource | None:
        """Gradient by ReLU's output -> that by the convolution's, in place of the activation."""
        kept = self._z if self.before else self._x
        for start, stop in self._tiles:
            rows = slice(start, stop)
            part = above(start, stop) if above else None
            if self.after:
                part = self.after.add_gradient(part, self._x.rows(start, stop), True, rows)
            elif part is not None and not self.pool:
                part = mask_(part, self._x.rows(start, stop))
            if self.before:
                part = self.before.add_gradient(part, self._z.rows(start, stop), False, rows)
            if part is None:
                return None
            kept.put(part, start, stop, self._height)
        return kept.rows
