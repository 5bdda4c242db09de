"""ReLU and 2 x 2 pooling of fp32 on CPUs, each way in one pass: native code.

Every thread takes a row of windows at a time.
"""

from __future__ import annotations

from enum import IntEnum, auto
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stylekernels.native import has_native_code, lanes

if TYPE_CHECKING:
    from llvmlite import ir

    from stylekernels.native.builder import Codes, Function, Int, Pointer, Vector
    from stylekernels.native.compile import Library

_CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))  # (row, column) of a window; bit i of a code is of i


class _Argument(IntEnum):
    COUNTER = 0
    ROWS = auto()  # of windows
    COLUMNS = auto()
    CHANNELS = auto()
    WIDE_ROW = auto()  # floats from a row to the next, before the pooling
    ROW = auto()  # likewise after it
    CODE_ROW = auto()  # bytes
    WIDE = auto()  # the map before the pooling
    POOLED = auto()
    CODE = auto()


def supports(wide: Tensor, pooled: Tensor, code: Tensor) -> bool:
    """Whether there is native code for maps before and after the pooling, and its code."""
    batch, channels, height, width = wide.shape
    shape = (batch, channels, height // 2, width // 2)
    return (
        wide.dtype == pooled.dtype == torch.float32
        and code.dtype == torch.uint8
        and wide.is_cpu
        and pooled.is_cpu
        and code.is_cpu
        and pooled.shape == code.shape == shape
        and has_native_code()
        and wide.shape[1] % lanes() == 0
        and all(x.stride(1) == 1 and x.stride(3) == x.shape[1] for x in (wide, pooled, code))
    )


def pool(x: Tensor, y: Tensor, code: Tensor, maximum: bool) -> None:
    """Write the pooling of relu(x) to `y`, and where its gradient goes to `code`."""
    _run("maximum" if maximum else "average", x, y, code)


def pool_backward(grad: Tensor, code: Tensor, output: Tensor, maximum: bool) -> None:
    """Write the gradient of the pooling to `output`, but for a last odd row or column."""
    _run("maximum_backward" if maximum else "average_backward", output, grad, code)


def _run(function: str, wide: Tensor, pooled: Tensor, code: Tensor) -> None:
    for x, y, c in zip(wide, pooled, code, strict=True):
        arguments = {
            _Argument.ROWS: y.shape[1],
            _Argument.COLUMNS: y.shape[2],
            _Argument.CHANNELS: y.shape[0],
            _Argument.WIDE_ROW: x.stride(1),
            _Argument.ROW: y.stride(1),
            _Argument.CODE_ROW: c.stride(1),
            _Argument.WIDE: x.data_ptr(),
            _Argument.POOLED: y.data_ptr(),
            _Argument.CODE: c.data_ptr(),
        }
        _library().run(function, arguments)


@cache
def _library() -> Library:
    from stylekernels.native.compile import Library

    return Library(build(lanes()))


def build(lanes: int) -> ir.Module:
    """The module of both poolings and their gradients, with vectors of so many floats."""
    from llvmlite import ir

    from stylekernels.native.builder import Function

    module = ir.Module(name="pool")
    bodies = {
        "average": _average,
        "maximum": _maximum,
        "average_backward": lambda f, *place: _backward(f, 0.25, *place),
        "maximum_backward": lambda f, *place: _backward(f, 1.0, *place),
    }
    for name, body in bodies.items():
        f = Function(module, name)
        channels = f.argument(_Argument.CHANNELS)
        with (
            f.shared_loop(_Argument.COUNTER, f.argument(_Argument.ROWS)) as row,
            f.loop(f.argument(_Argument.COLUMNS)) as column,
            f.loop(channels, lanes) as c,
        ):
            wide = f.pointer(_Argument.WIDE) + row * 2 * f.argument(_Argument.WIDE_ROW) + c
            corners = [
                wide + f.argument(_Argument.WIDE_ROW) * i + (column * 2 + j) * channels
                for i, j in _CORNERS
            ]
            here = column * channels + c
            pooled = f.pointer(_Argument.POOLED) + row * f.argument(_Argument.ROW) + here
            place = row * f.argument(_Argument.CODE_ROW) + here
            body(f, lanes, corners, pooled, place)
        f.finish()
    return module


def _average(
    f: Function, lanes: int, corners: list[Pointer], pooled: Pointer, place: Int
) -> None:  # fmt: skip
    values = [corner.load(lanes).relu() for corner in corners]
    pooled.store(0.25 * (values[0] + values[1] + values[2] + values[3]))
    codes = [value.nonzero().codes(1 << index, 0) for index, value in enumerate(values)]
    f.pointer(_Argument.CODE).store_codes(place, codes[0] | codes[1] | codes[2] | codes[3])


def _maximum(
    f: Function, lanes: int, corners: list[Pointer], pooled: Pointer, place: Int
) -> None:  # fmt: skip
    highest: Vector = corners[0].load(lanes)
    code: Codes | int = 1
    for index, corner in enumerate(corners[1:], start=1):
        value = corner.load(lanes)
        higher = value.above(highest)  # of equal ones the first has the gradient
        highest, code = higher.choose(value, highest), higher.codes(1 << index, code)
    y = highest.relu()
    pooled.store(y)
    f.pointer(_Argument.CODE).store_codes(place, y.nonzero().codes(code, 0))


def _backward(
    f: Function, share: float, lanes: int, corners: list[Pointer], pooled: Pointer, place: Int
) -> None:
    gradient = pooled.load(lanes)
    if share != 1:
        gradient = share * gradient
    code = f.pointer(_Argument.CODE).load_codes(place, lanes)
    for index, corner in enumerate(corners):
        corner.store(code.has(1 << index).choose(gradient, f.constant(0.0, lanes)))
