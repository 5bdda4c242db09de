"""The inner products of an fp32 history on CPUs, at the speed of the memory: native code.

Every thread takes a block of columns, for which both vectors stay in its cache while the rows of
the history pass by. No sum depends on the number of threads.
"""

from __future__ import annotations

from enum import IntEnum, auto
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stylekernels.native import has_native_code, lanes, library

if TYPE_CHECKING:
    from llvmlite import ir


_BLOCK = 16384  # columns: rows are read in stretches long enough for the memory
_SUM = 2048  # columns whose products are added up in fp32; a power of two, as a block
_AT_ONCE = 2  # vectors of a row


class _Argument(IntEnum):
    COUNTER = 0
    BLOCKS = auto()
    ROWS = auto()
    STRIDE = auto()  # floats from a row to the next, and its columns
    HISTORY = auto()
    GRADIENT = auto()
    DIFFERENCE = auto()  # y
    SUMS = auto()  # [sums of a row, rows, 2, lanes]


def supports(rows: Tensor, vectors: Tensor) -> bool:
    """Whether there is native code for the rows of a history and these vectors."""
    fp32 = rows.dtype == vectors.dtype == torch.float32
    dense = rows.is_contiguous() and vectors.stride(1) == 1
    if not (fp32 and dense and rows.is_cpu and vectors.is_cpu and has_native_code()):
        return False
    return rows.shape[1] == vectors.shape[1] and rows.shape[1] % (_AT_ONCE * lanes()) == 0


def products(rows: Tensor, vectors: Tensor) -> Tensor:
    """The inner products [rows, 2] in fp64 of rows [rows, columns] and vectors [2, columns]."""
    columns = rows.shape[1]
    sums = rows.new_empty(-(-columns // _SUM), len(rows), 2, lanes())
    arguments = {
        _Argument.BLOCKS: -(-columns // _BLOCK),
        _Argument.ROWS: len(rows),
        _Argument.STRIDE: columns,
        _Argument.HISTORY: rows.data_ptr(),
        _Argument.GRADIENT: vectors[0].data_ptr(),
        _Argument.DIFFERENCE: vectors[1].data_ptr(),
        _Argument.SUMS: sums.data_ptr(),
    }
    library(build, lanes()).run("products", arguments)
    return sums.sum((0, 3), dtype=torch.float64)


def build(lanes: int) -> ir.Module:
    """The module of the function ``products``, with vectors of so many floats."""
    from llvmlite import ir

    from stylekernels.native.builder import Function

    module = ir.Module(name="inner products")
    f = Function(module, "products")
    rows, stride = f.argument(_Argument.ROWS), f.argument(_Argument.STRIDE)
    vectors = [f.pointer(place) for place in (_Argument.GRADIENT, _Argument.DIFFERENCE)]
    with (
        f.shared_loop(_Argument.COUNTER, f.argument(_Argument.BLOCKS)) as block,
        f.loop(rows) as row,
        f.loop((stride - block * _BLOCK).at_most(_BLOCK), _SUM) as start,
    ):
        first = block * _BLOCK + start
        source = f.pointer(_Argument.HISTORY) + row * stride + first
        totals = [[f.variable(lanes) for _ in range(_AT_ONCE)] for _ in vectors]
        for total in [total for pair in totals for total in pair]:
            total.set(f.constant(0.0, lanes))
        with f.loop((stride - first).at_most(_SUM), _AT_ONCE * lanes) as column:
            for index in range(_AT_ONCE):
                place = column + index * lanes
                value = (source + place).load(lanes)
                for vector, pair in zip(vectors, totals, strict=True):
                    product = value * (vector + first + place).load(lanes)
                    pair[index].set(pair[index].get() + product)
        into = f.pointer(_Argument.SUMS) + ((first // _SUM) * rows + row) * (len(vectors) * lanes)
        for index, (one, other) in enumerate(totals):
            (into + index * lanes).store(one.get() + other.get())
    f.finish()
    return module
