"""ReLU and 2 x 2 pooling of fp32 on CPUs, each way in one pass: native code.

Every thread takes a row of windows at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum, auto
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stylekernels.native import has_native_code, lanes, library

if TYPE_CHECKING:
    from llvmlite import ir

    from stylekernels.native.builder import Codes, Function, Pointer, Vector

    Window = Callable[[Sequence[Vector]], tuple[Vector, Codes]]
    _Body = Callable[[Function, int, list[Pointer], Pointer, Pointer], None]

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


def pool(x: Tensor, y: Tensor, code: Tensor, pooling: str) -> None:
    """Write the pooling of relu(x) to `y`, and where its gradient goes to `code`.

    `pooling` is one of ``WINDOWS``.
    """
    _run(pooling, x, y, code)


def pool_backward(grad: Tensor, code: Tensor, output: Tensor, pooling: str) -> None:
    """Write the gradient of the pooling to `output`, but for a last odd row or column."""
    _run(f"{pooling}_backward", output, grad, code)


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
        library(build, lanes()).run(function, arguments)


def build(lanes: int) -> ir.Module:
    """The module of both poolings and their gradients, with vectors of so many floats."""
    from llvmlite import ir

    from stylekernels.native.builder import Function

    module = ir.Module(name="pool")
    for name, window in WINDOWS.items():
        _write(Function(module, name), lanes, partial(_forward, window))
        backward = partial(_backward, 0.25 if name == "average" else 1.0)
        _write(Function(module, f"{name}_backward"), lanes, backward)
    return module


def _write(f: Function, lanes: int, body: _Body) -> None:
    """Write ``body(f, lanes, corners, pooled, code)`` for every window and vector of channels."""
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
        code = f.pointer(_Argument.CODE).bytes_on(row * f.argument(_Argument.CODE_ROW) + here)
        body(f, lanes, corners, pooled, code)
    f.finish()


def _forward(
    window: Window, f: Function, lanes: int, corners: list[Pointer], pooled: Pointer, code: Pointer
) -> None:
    del f
    y, bits = window([corner.load(lanes) for corner in corners])
    pooled.store(y)
    code.store_codes(bits)


def average(corners: Sequence[Vector]) -> tuple[Vector, Codes]:
    """The average of a window's four values after ReLU, and its code."""
    values = [corner.relu() for corner in corners]
    codes = [value.nonzero().codes(1 << index, 0) for index, value in enumerate(values)]
    y = 0.25 * (values[0] + values[1] + values[2] + values[3])
    return y, codes[0] | codes[1] | codes[2] | codes[3]


def maximum(corners: Sequence[Vector]) -> tuple[Vector, Codes]:
    """The maximum of a window's four values after ReLU, and its code."""
    highest = corners[0]
    code: Codes | int = 1
    for index, value in enumerate(corners[1:], start=1):
        higher = value.above(highest)  # of equal ones the first has the gradient
        highest, code = higher.choose(value, highest), higher.codes(1 << index, code)
    y = highest.relu()
    return y, y.nonzero().codes(code, 0)


WINDOWS = {"average": average, "maximum": maximum}


def _backward(
    share: float, f: Function, lanes: int, corners: list[Pointer], pooled: Pointer, code: Pointer
) -> None:
    gradient = pooled.load(lanes)
    if share != 1:
        gradient = share * gradient
    bits = code.load_codes(lanes)
    for index, corner in enumerate(corners):
        corner.store(bits.has(1 << index).choose(gradient, f.constant(0.0, lanes)))
