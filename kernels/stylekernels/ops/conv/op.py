"""A frozen 3 x 3 convolution with padding 1 by Winograd's F(4 x 4, 3 x 3), fp32 on CPUs.

A quarter of the products of a direct convolution, at once to twice its rounding error: 6e-7 to 9e-7
of the result with VGG's layers. Native code, compiled by LLVM at first use; see ``winograd``.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from stylekernels.native import has_native_code, lanes
from stylekernels.ops.conv.transforms import TILE

if TYPE_CHECKING:
    from stylekernels.native.compile import Library

_SMALL_BLOCK, _LARGE_BLOCK = 48, 96  # tiles
_SMALL_KERNELS = 128 * 128  # whose transforms stay in a core's cache


def processor() -> str:
    """Name of this processor as LLVM has it, and what its vectors hold; needs ``llvmlite``."""
    from stylekernels.native.compile import host

    name, _ = host()
    return f"{name}, {lanes()} lanes"


def supports(weight: Tensor) -> bool:
    """Whether there is native code here for convolutions with ``weight`` [K, C, 3, 3]."""
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or not has_native_code():
        return False
    return weight.shape[1] % lanes() == 0 and weight.shape[0] % lanes() == 0


class Workspace:
    """Memory that convolutions of one engine share, one after the other."""

    def __init__(self) -> None:
        self._floats = torch.empty(0)

    def floats(self, count: int) -> Tensor:
        """At least so many floats, of any content."""
        if self._floats.numel() < count:
            self._floats = torch.empty(0)  # not the old and the new at once
            self._floats = torch.empty(count)
        return self._floats


class Winograd:
    """A convolution with padding 1 and frozen weights.

    Args:
        weight: [K, C, 3, 3] fp32 on the CPU; ``supports`` it.
        bias: [K], or None.
        workspace: shared with other convolutions.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, workspace: Workspace) -> None:
        self.outputs, self.inputs = weight.shape[:2]
        self._bias = torch.zeros(self.outputs) if bias is None else bias.contiguous()
        self._workspace = workspace
        g = weight.flatten(2).permute(1, 2, 0)  # [C, 9, K]
        g = F.pad(g, (0, -self.outputs % _group())).unflatten(2, (-1, _panel()))
        self._kernels = g.permute(2, 0, 1, 3).contiguous()  # [panels, C, 9, panel]

    def __call__(
        self, x: Tensor, padding: tuple[bool, bool] = (True, True), relu: bool = False
    ) -> Tensor:
        """[B, C, H, W] -> [B, K, H', W], channels-last, with bias and perhaps ReLU.

        Args:
            x: channels-last; copied if it is not.
            padding: whether there is a row of zeros above and below ``x``. Without one, ``x`` has
                that row itself, and the result a row fewer.
            relu: whether to apply one.

        Raises:
            ValueError: ``x`` is not fp32, on a CPU, of C channels.
        """
        if x.dim() != 4 or x.shape[1] != self.inputs or x.dtype != torch.float32 or not x.is_cpu:
            raise ValueError(
                f"x must be fp32 [B, {self.inputs}, H, W] on the CPU, got {x.dtype} "
                f"{tuple(x.shape)} on {x.device}"
            )
        above, below = padding
        batch, _, height, width = x.shape
        out_height = height + above + below - 2
        if x.stride(1) != 1 or x.stride(3) != self.inputs:
            x = x.contiguous(memory_format=torch.channels_last)
        y = x.new_empty(batch, out_height, width, self.outputs).permute(0, 3, 1, 2)
        for image, result in zip(x, y, strict=True):
            self._convolve(image, result, above, relu)
        return y

    def _convolve(self, x: Tensor, y: Tensor, top: bool, relu: bool) -> None:
        from stylekernels.ops.conv.winograd import Argument, workspace

        height, width = y.shape[1:]
        columns = -(-width // TILE)
        tiles = -(-height // TILE) * columns
        threads = torch.get_num_threads()
        block = self._block(tiles, threads)
        outputs = self._kernels.shape[0] * _panel()  # in whole groups
        size = workspace(block, self.inputs, self.outputs, lanes())
        memory = self._workspace.floats(threads * size)
        arguments = {
            Argument.BLOCKS: -(-tiles // block),
            Argument.TILES: tiles,
            Argument.BLOCK_TILES: block,
            Argument.COLUMNS: columns,
            Argument.IN_CHANNELS: self.inputs,
            Argument.OUT_CHANNELS: self.outputs,
            Argument.GROUPS: outputs // _group(),
            Argument.IN_HEIGHT: x.shape[1],
            Argument.OUT_HEIGHT: height,
            Argument.WIDTH: width,
            Argument.IN_ROW: x.stride(1),
            Argument.OUT_ROW: y.stride(1),
            Argument.TOP: int(top),
            Argument.X: x.data_ptr(),
            Argument.KERNELS: self._kernels.data_ptr(),
            Argument.BIAS: self._bias.data_ptr(),
            Argument.Y: y.data_ptr(),
            Argument.WORKSPACE: memory.data_ptr(),
            Argument.WORKSPACE_SIZE: size,
        }
        _library().run("winograd_relu" if relu else "winograd", arguments)

    def _block(self, tiles: int, threads: int) -> int:
        """Tiles that a thread takes at a time, so that all have as much to do."""
        from stylekernels.ops.conv.winograd import rows_of_product

        rows = rows_of_product(lanes())
        small = self.inputs * self.outputs <= _SMALL_KERNELS
        most = _SMALL_BLOCK if small else _LARGE_BLOCK
        rounds = -(-tiles // (most * threads))
        return rows * -(-tiles // (rounds * threads * rows))


@cache
def _panel() -> int:
    from stylekernels.ops.conv.winograd import panel

    return panel(lanes())


@cache
def _group() -> int:
    from stylekernels.ops.conv.winograd import group

    return group(lanes())


@cache
def _library() -> Library:
    from stylekernels.native.compile import Library
    from stylekernels.ops.conv.winograd import build

    return Library(build(lanes()))
