"""Winograd's convolution in native code: both transforms and the products while data is in cache.

Every thread takes a block of tiles at a time and transforms their inputs. Then, for some outputs at
a time, it transforms the kernels of some inputs, multiplies point by point, adds up, and transforms
the sums back, with bias and epilogue. Transformed kernels would be four times the weights and come
from memory; so they are made where they are used, and stay in a core's second cache. Where there
are few tiles, threads take the same block and share its outputs. No sum depends on any of this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from llvmlite import ir

from stylekernels.native.builder import Function, Int, Pointer, Vector
from stylekernels.ops.conv.arguments import Argument, Epilogue
from stylekernels.ops.conv.transforms import (
    PATCH,
    POINTS,
    TILE,
    both_ways,
    input_transform,
    kernel_transform,
    output_transform,
)
from stylekernels.ops.pool.native import WINDOWS

_VECTORS = 2  # of outputs in a panel
_PANELS = 2  # in a group, whose kernels are transformed at a time
_TAPS = 9  # of a kernel
_SPACE = 16  # floats, a line of the cache
_WINDOWS = {Epilogue.AVERAGE: WINDOWS["average"], Epilogue.MAXIMUM: WINDOWS["maximum"]}
# Inputs whose kernels are transformed at a time, and whose products are added up one by one:
_SLAB = 64


_Writer = Callable[[Sequence[Vector], Int], None]  # (a tile's values, their outputs' first)


def rows_of_product(lanes: int) -> int:
    """Tiles that a product takes at a time: its sums fill the registers of the processor."""
    return 12 if lanes == 16 else 6


def panel(lanes: int) -> int:
    """Outputs that a product takes at a time."""
    return _VECTORS * lanes


def group(lanes: int) -> int:
    """Outputs whose kernels are transformed at a time; there are whole groups of them."""
    return _PANELS * panel(lanes)


def workspace(block: int, inputs: int, outputs: int, lanes: int) -> int:
    """Floats that a thread needs: zeros, a place for what is left out, and transforms.

    Args:
        block: tiles.
        inputs: C.
        outputs: K.
        lanes: floats of a vector.
    """
    wide = group(lanes)
    transforms = POINTS * (_stride(block, inputs) + _stride(block, wide))
    return inputs + outputs + transforms + _PANELS * _SLAB * _stride(POINTS, panel(lanes))


def _stride(rows: Any, columns: Any) -> Any:
    """Floats from a point to the next: no power of two, which caches have few places for."""
    return rows * columns + _SPACE


def build(lanes: int) -> ir.Module:
    """The module of the function ``winograd``, with vectors of so many floats."""
    module = ir.Module(name="winograd")
    f = Function(module, "winograd")
    _Kernel(f, lanes).write()
    f.finish()
    return module


class _Kernel:
    def __init__(self, f: Function, lanes: int) -> None:
        self.f, self.lanes = f, lanes
        self.tiles, self.block = f.argument(Argument.TILES), f.argument(Argument.BLOCK_TILES)
        self.columns = f.argument(Argument.COLUMNS)
        self.inputs, self.outputs = (
            f.argument(Argument.IN_CHANNELS), f.argument(Argument.OUT_CHANNELS),
        )  # fmt: skip
        self.height, self.width = f.argument(Argument.OUT_HEIGHT), f.argument(Argument.WIDTH)
        self.panel, self.group = panel(lanes), group(lanes)

    def write(self) -> None:
        f = self.f
        size = f.argument(Argument.WORKSPACE_SIZE)
        self.zeros = f.pointer(Argument.WORKSPACE) + f.count_up(Argument.SLOTS) * size
        self.left_out = self.zeros + self.inputs
        self.v = self.left_out + self.outputs
        self.v_stride = _stride(self.block, self.inputs)
        self.u = self.v + self.v_stride * POINTS
        self.u_stride = _stride(POINTS, self.panel)  # from an input to the next
        self.m = self.u + self.u_stride * (_PANELS * _SLAB)
        self.m_stride = _stride(self.block, self.group)
        with f.loop(self.inputs, self.lanes) as c:
            (self.zeros + c).store(f.constant(0.0, self.lanes))
        parts, groups = f.argument(Argument.PARTS), f.argument(Argument.PART_GROUPS)
        with f.shared_loop(Argument.COUNTER, f.argument(Argument.BLOCKS) * parts) as index:
            block = index // parts
            first, part = block * self.block, index - block * parts
            self.here = (self.tiles - first).at_most(self.block)
            self._each_tile(first, self._transform_input)
            with f.loop(groups) as index_in_part:
                index_of_group = part * groups + index_in_part
                self.first_output = index_of_group * self.group
                with f.loop(self.inputs, _SLAB) as start:
                    self._transform_kernels(index_of_group, start)
                    self._multiply(start)
                for epilogue in Epilogue:
                    with f.when(f.argument(Argument.EPILOGUE).equals(epilogue)):
                        self._each_tile(first, partial(self._transform_output, epilogue))

    def _each_tile(self, first: Int, write: Callable[[Int, Int, Int], None]) -> None:
        """Write ``write(tile, row, column)`` for every tile of the block that there is."""
        with self.f.loop(self.here) as tile:
            row = (first + tile) // self.columns
            write(tile, row, first + tile - row * self.columns)

    def _transform_input(self, tile: Int, row: Int, column: Int) -> None:
        f = self.f
        top = row * TILE - f.argument(Argument.TOP)
        left = column * TILE - 1
        x, stride = f.pointer(Argument.X), f.argument(Argument.IN_ROW)
        there = self._square(PATCH, top, left, f.argument(Argument.IN_HEIGHT), self.width)
        places = [
            (x + row * stride + column * self.inputs).or_else(inside, self.zeros)
            for row, column, inside in there
        ]
        into = self.v + tile * self.inputs
        with f.loop(self.inputs, self.lanes) as c:
            d = [(place + c).load(self.lanes) for place in places]
            for point, value in enumerate(both_ways(input_transform, d)):
                (into + self.v_stride * point + c).store(value)

    def _transform_output(self, epilogue: Epilogue, tile: Int, row: Int, column: Int) -> None:
        f = self.f
        source = self.m + tile * self.group
        bias = f.pointer(Argument.BIAS) + self.first_output
        writer = self._pooled_writer if epilogue in _WINDOWS else self._writer
        write = writer(epilogue, row, column)
        with f.loop((self.outputs - self.first_output).at_most(self.group), self.lanes) as k:
            m = [(source + self.m_stride * point + k).load(self.lanes) for point in range(POINTS)]
            sums = both_ways(output_transform, m)
            write([total + (bias + k).load(self.lanes) for total in sums], self.first_output + k)

    def _writer(self, epilogue: Epilogue, row: Int, column: Int) -> _Writer:
        f, zero = self.f, self.f.constant(0.0, self.lanes)
        y, y_row = f.pointer(Argument.Y), f.argument(Argument.OUT_ROW)
        mask, mask_row = f.pointer(Argument.MASK), f.argument(Argument.MASK_ROW)
        there = self._square(TILE, row * TILE, column * TILE, self.height, self.width)
        places = [
            (y + row * y_row + column * self.outputs).or_else(inside, self.left_out)
            for row, column, inside in there
        ]
        masks = [
            (mask + row * mask_row + column * self.outputs).or_else(inside, self.left_out)
            for row, column, inside in there
        ]

        def write(values: Sequence[Vector], k: Int) -> None:
            for place, of_place, value in zip(places, masks, values, strict=True):
                written = value.relu() if epilogue == Epilogue.RELU else value
                if epilogue == Epilogue.MASK:
                    written = (of_place + k).load(self.lanes).above(zero).choose(value, zero)
                (place + k).store(written)

        return write

    def _pooled_writer(self, epilogue: Epilogue, row: Int, column: Int) -> _Writer:
        f, half = self.f, TILE // 2
        y, y_row = f.pointer(Argument.Y), f.argument(Argument.OUT_ROW)
        code, code_row = f.pointer(Argument.CODE), f.argument(Argument.CODE_ROW)
        there = self._square(half, row * half, column * half, self.height // 2, self.width // 2)
        places = [
            (y + row * y_row + column * self.outputs).or_else(inside, self.left_out)
            for row, column, inside in there
        ]
        codes = [
            code.bytes_on(row * code_row + column * self.outputs).or_else(inside, self.left_out)
            for row, column, inside in there
        ]

        def write(values: Sequence[Vector], k: Int) -> None:
            for index, (place, of_place) in enumerate(zip(places, codes, strict=True)):
                corner = index // half * 2 * TILE + index % half * 2
                at = [corner, corner + 1, corner + TILE, corner + TILE + 1]
                pooled, bits = _WINDOWS[epilogue]([values[i] for i in at])
                (place + k).store(pooled)
                of_place.bytes_on(k).store_codes(bits)

        return write

    def _transform_kernels(self, index_of_group: Int, start: Int) -> None:
        """Transform those of the inputs from ``start`` on, for the group's outputs."""
        f, size = self.f, self.panel
        kernels = f.pointer(Argument.KERNELS) + index_of_group * self.inputs * (_TAPS * self.group)
        for panel in range(_PANELS):
            of_panel = kernels + (self.inputs * panel + start) * (_TAPS * size)
            into = self.u + self.u_stride * (panel * _SLAB)
            with f.loop(self._slab(start)) as c, f.loop(size, self.lanes) as k:
                source = of_panel + c * (_TAPS * size) + k
                g = [(source + tap * size).load(self.lanes) for tap in range(_TAPS)]
                for point, value in enumerate(both_ways(kernel_transform, g)):
                    (into + c * self.u_stride + point * size + k).store(value)

    def _slab(self, start: Int) -> Int:
        """Inputs from ``start`` on that are taken together."""
        return (self.inputs - start).at_most(_SLAB)

    def _square(
        self, side: int, top: Int, left: Int, height: Int, width: Int
    ) -> list[tuple[Int, Int, Any]]:
        """Row, column, and whether the map has it, of the positions of a square."""
        both = self.f.builder.and_
        return [
            (top + i, left + j, both((top + i).within(height), (left + j).within(width)))
            for i in range(side)
            for j in range(side)
        ]

    def _multiply(self, start: Int) -> None:
        """Add the products of the inputs from ``start`` on to M."""
        f, rows = self.f, rows_of_product(self.lanes)
        with f.loop(POINTS) as point:
            v, m = self.v + self.v_stride * point + start, self.m + self.m_stride * point
            for panel in range(_PANELS):
                u = self.u + self.u_stride * (panel * _SLAB) + point * self.panel
                into = m + panel * self.panel
                with f.loop(self.here, rows) as tile:
                    self._product(start, v + tile * self.inputs, u, into + tile * self.group)

    def _product(self, start: Int, v: Pointer, u: Pointer, m: Pointer) -> None:
        """Add rows of V [rows, slab] times a panel of U [slab, wide] to M.

        Sums of so many products are added up, not all products one by one: half of the rounding
        error with 512 channels.
        """
        f, rows, lanes = self.f, rows_of_product(self.lanes), self.lanes
        sums = [[f.variable(lanes) for _ in range(_VECTORS)] for _ in range(rows)]
        places = [
            (m + row * self.group + lanes * index, total)
            for row, totals in enumerate(sums)
            for index, total in enumerate(totals)
        ]
        for _, total in places:
            total.set(f.constant(0.0, lanes))
        with f.loop(self._slab(start)) as c:
            weights = [
                (u + c * self.u_stride + lanes * index).load(lanes) for index in range(_VECTORS)
            ]
            for index, totals in enumerate(sums):
                value = (v + self.inputs * index + c).splat(lanes)
                for total, weight in zip(totals, weights, strict=True):
                    total.set(total.get() + value * weight)
        with f.when(start.differs(0)):
            for place, total in places:
                total.set(place.load(lanes) + total.get())
        for place, total in places:
            place.store(total.get())
