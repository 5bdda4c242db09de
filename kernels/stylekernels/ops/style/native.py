"""Gram matrices of fp32 features on CPUs: native code that computes one of two equal halves.

Every thread takes a group of positions. It lays them out chunk by chunk so that products find both
operands in its first cache, and adds up the products of a chunk before it adds them to the group's.
No sum depends on the number of threads.
"""

from __future__ import annotations

from enum import IntEnum, auto
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stylekernels.native import has_native_code, lanes, library

if TYPE_CHECKING:
    from llvmlite import ir

    from stylekernels.native.builder import Function, Int, Pointer

_CHUNK = 128  # positions: two panels of them fill half of a core's first cache
_GROUPS = 16  # at most, each with a matrix of its own
_VECTORS = 2  # of columns in a panel


class _Argument(IntEnum):
    COUNTER = 0
    SLOTS = auto()
    GROUPS = auto()
    GROUP_POSITIONS = auto()
    POSITIONS = auto()
    CHANNELS = auto()
    X = auto()  # [positions, channels]
    SUMS = auto()  # [groups, channels, channels]
    CHUNKS = auto()  # [threads, channels, _CHUNK]


def supports(x: Tensor) -> bool:
    """Whether there is native code for the products of ``x`` [M, C]."""
    return (
        x.dtype == torch.float32
        and x.is_cpu
        and x.is_contiguous()
        and has_native_code()
        and x.shape[1] % _panel(lanes()) == 0
        and len(x) > 0
    )


def products(x: Tensor) -> Tensor:
    """X^T X [C, C] of ``x`` [M, C]; ``supports`` it."""
    positions, channels = x.shape
    chunks = -(-positions // _CHUNK)
    of_group = -(-chunks // _GROUPS) * _CHUNK
    groups, threads = -(-positions // of_group), torch.get_num_threads()
    sums = x.new_empty(groups, channels, channels)
    laid_out = x.new_empty(threads, channels, _CHUNK)
    arguments = {
        _Argument.GROUPS: groups,
        _Argument.GROUP_POSITIONS: of_group,
        _Argument.POSITIONS: positions,
        _Argument.CHANNELS: channels,
        _Argument.X: x.data_ptr(),
        _Argument.SUMS: sums.data_ptr(),
        _Argument.CHUNKS: laid_out.data_ptr(),
    }
    library(build, lanes()).run("products", arguments)
    half = sums.sum(0).triu_()
    return half.add_(half.triu(1).mT)


def build(lanes: int) -> ir.Module:
    """The module of the function ``products``, with vectors of so many floats."""
    from llvmlite import ir

    from stylekernels.native.builder import Function

    module = ir.Module(name="products")
    f = Function(module, "products")
    channels, of_group = f.argument(_Argument.CHANNELS), f.argument(_Argument.GROUP_POSITIONS)
    chunk = f.pointer(_Argument.CHUNKS) + f.count_up(_Argument.SLOTS) * channels * _CHUNK
    with f.shared_loop(_Argument.COUNTER, f.argument(_Argument.GROUPS)) as group:
        sums = f.pointer(_Argument.SUMS) + group * channels * channels
        with f.loop(channels * channels, lanes) as place:
            (sums + place).store(f.constant(0.0, lanes))
        first = group * of_group
        positions = (f.argument(_Argument.POSITIONS) - first).at_most(of_group)
        with f.loop(positions, _CHUNK) as start:
            x = f.pointer(_Argument.X) + (first + start) * channels
            length = (positions - start).at_most(_CHUNK)
            _lay_out(f, lanes, x, chunk, length)
            with f.loop(channels, _panel(lanes)) as j, f.loop(j + _panel(lanes), _rows(lanes)) as i:
                _add_products(f, lanes, chunk, length, i, j, sums + i * channels + j)
    f.finish()
    return module


def _panel(lanes: int) -> int:
    """Columns of a product."""
    return _VECTORS * lanes


def _rows(lanes: int) -> int:
    """Rows of a product: its sums fill most of the processor's registers."""
    return lanes // 2


def _lay_out(f: Function, lanes: int, x: Pointer, chunk: Pointer, length: Int) -> None:
    """Copy rows of ``x`` [length, C] to panels [C / panel, _CHUNK, panel]."""
    channels, panel = f.argument(_Argument.CHANNELS), _panel(lanes)
    with f.loop(length) as position, f.loop(channels, panel) as c:
        for offset in range(0, panel, lanes):
            values = (x + position * channels + c + offset).load(lanes)
            (chunk + c * _CHUNK + position * panel + offset).store(values)


def _add_products(
    f: Function, lanes: int, chunk: Pointer, length: Int, i: Int, j: Int, sums: Pointer
) -> None:
    """Add the products of channels from ``i`` and from ``j`` on to rows and columns of ``sums``."""
    channels, panel, rows = f.argument(_Argument.CHANNELS), _panel(lanes), _rows(lanes)
    of_i = i // panel * panel
    left, right = chunk + of_i * _CHUNK + (i - of_i), chunk + j * _CHUNK
    offsets = range(0, panel, lanes)
    totals = [[f.variable(lanes) for _ in offsets] for _ in range(rows)]
    for total in [total for row in totals for total in row]:
        total.set(f.constant(0.0, lanes))
    with f.loop(length) as position:
        place = position * panel
        columns = [(right + place + offset).load(lanes) for offset in offsets]
        for index, row in enumerate(totals):
            value = (left + place + index).splat(lanes)
            for total, column in zip(row, columns, strict=True):
                total.set(total.get() + value * column)
    for index, row in enumerate(totals):
        for offset, total in zip(offsets, row, strict=True):
            place_of_sum = sums + channels * index + offset
            place_of_sum.store(place_of_sum.load(lanes) + total.get())
