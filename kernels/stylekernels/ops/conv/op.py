"""A frozen 3 x 3 convolution with padding 1 by Winograd's F(4 x 4, 3 x 3), fp32 on CPUs.

A quarter of the products of a direct convolution, at once to twice its rounding error: 6e-7 to 9e-7
of the result with VGG's layers. Native code, compiled by LLVM at first use; see ``winograd``.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import record_function

from stylekernels.native import has_native_code, lanes, library
from stylekernels.ops.conv.arguments import Argument, Epilogue
from stylekernels.ops.conv.transforms import TILE

_LARGEST_BLOCK = 96  # tiles, whose transforms stay in the caches
# The time of transforms, in those of a tile's products with a group of outputs:
_INPUT = 0.5  # of a tile's inputs
_KERNELS = 10.0  # of a group's kernels


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
        self._groups = self._kernels.shape[0] * _panel() // _group()

    def __call__(
        self,
        x: Tensor,
        padding: tuple[bool, bool] = (True, True),
        relu: bool = False,
        *,
        mask: Tensor | None = None,
        output: Tensor | None = None,
    ) -> Tensor:
        """[B, C, H, W] -> [B, K, H', W], channels-last, with bias and perhaps ReLU or a mask.

        Args:
            x: channels-last; copied if it is not.
            padding: whether there is a row of zeros above and below ``x``. Without one, ``x`` has
                that row itself, and the result a row fewer.
            relu: whether to apply one.
            mask: fp32 [B, K, H', W], channels-last: the result is zero where it is at most 0.
            output: likewise, to be written and returned; it may be ``mask``.

        Raises:
            ValueError: an operand is not fp32, on a CPU, of these shapes and strides.
        """
        x, shape = self._input(x, padding)
        if output is None:
            output = _channels_last(shape, x)
        _require("output", output, shape, torch.float32)
        if mask is not None:
            _require("mask", mask, shape, torch.float32)
        epilogue = Epilogue.RELU if relu else Epilogue.NONE if mask is None else Epilogue.MASK
        for index, (image, result) in enumerate(zip(x, output, strict=True)):
            of_image = result if mask is None else mask[index]
            arguments = {
                Argument.MASK_ROW: of_image.stride(1),
                Argument.MASK: of_image.data_ptr(),
                Argument.OUT_ROW: result.stride(1),
                Argument.Y: result.data_ptr(),
            }
            self._run(image, shape[2], padding, epilogue, arguments)
        return output

    def pooled(
        self,
        x: Tensor,
        padding: tuple[bool, bool] = (True, True),
        *,
        maximum: bool,
        output: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The convolution with ReLU and 2 x 2 pooling, and the code of its windows.

        As ``relu_max_pool2d_forward`` or ``relu_avg_pool2d_forward`` of ``self(x, padding)``.

        Args:
            x: [B, C, H, W], channels-last; copied if it is not.
            padding: as of ``self``.
            maximum: whether maxima are taken, in place of averages.
            output: fp32 and uint8 [B, K, H' // 2, W // 2], channels-last, to be written and
                returned.

        Raises:
            ValueError: as of ``self``.
        """
        x, (batch, outputs, height, width) = self._input(x, padding)
        shape = batch, outputs, height // 2, width // 2
        y, codes = output or (_channels_last(shape, x), _channels_last(shape, x, torch.uint8))
        _require("output", y, shape, torch.float32)
        _require("code", codes, shape, torch.uint8)
        epilogue = Epilogue.MAXIMUM if maximum else Epilogue.AVERAGE
        for image, result, code in zip(x, y, codes, strict=True):
            arguments = {
                Argument.OUT_ROW: result.stride(1),
                Argument.Y: result.data_ptr(),
                Argument.CODE_ROW: code.stride(1),
                Argument.CODE: code.data_ptr(),
            }
            self._run(image, height, padding, epilogue, arguments)
        return y, codes

    def _input(
        self, x: Tensor, padding: tuple[bool, bool]
    ) -> tuple[Tensor, tuple[int, int, int, int]]:
        """``x`` channels-last, and the shape of the convolution's result."""
        if x.dim() != 4 or x.shape[1] != self.inputs or x.dtype != torch.float32 or not x.is_cpu:
            raise ValueError(
                f"x must be fp32 [B, {self.inputs}, H, W] on the CPU, got {x.dtype} "
                f"{tuple(x.shape)} on {x.device}"
            )
        if x.stride(1) != 1 or x.stride(3) != self.inputs:
            x = x.contiguous(memory_format=torch.channels_last)
        return x, (len(x), self.outputs, x.shape[2] + sum(padding) - 2, x.shape[3])

    def _run(
        self,
        x: Tensor,
        height: int,
        padding: tuple[bool, bool],
        epilogue: Epilogue,
        arguments: dict[Argument, int],
    ) -> None:
        """Convolve an image [C, H, W] to ``height`` rows; ``arguments`` tell of what is written."""
        from stylekernels.ops.conv.winograd import build, rows_of_product, workspace

        width = x.shape[2]
        columns = -(-width // TILE)
        tiles = -(-height // TILE) * columns
        threads = torch.get_num_threads()
        block, parts = division(tiles, self._groups, threads, rows_of_product(lanes()))
        size = workspace(block, self.inputs, self.outputs, lanes())
        memory = self._workspace.floats(threads * size)
        arguments |= {
            Argument.BLOCKS: -(-tiles // block),
            Argument.TILES: tiles,
            Argument.BLOCK_TILES: block,
            Argument.COLUMNS: columns,
            Argument.IN_CHANNELS: self.inputs,
            Argument.OUT_CHANNELS: self.outputs,
            Argument.PARTS: parts,
            Argument.PART_GROUPS: self._groups // parts,
            Argument.IN_HEIGHT: x.shape[1],
            Argument.OUT_HEIGHT: height,
            Argument.WIDTH: width,
            Argument.IN_ROW: x.stride(1),
            Argument.TOP: int(padding[0]),
            Argument.EPILOGUE: epilogue,
            Argument.X: x.data_ptr(),
            Argument.KERNELS: self._kernels.data_ptr(),
            Argument.BIAS: self._bias.data_ptr(),
            Argument.WORKSPACE: memory.data_ptr(),
            Argument.WORKSPACE_SIZE: size,
        }
        with record_function("stylekernels::winograd"):  # profilers see torch's operators alone
            library(build, lanes()).run("winograd", arguments)


@cache
def division(tiles: int, groups: int, threads: int, rows: int) -> tuple[int, int]:
    """How threads share a convolution: tiles of a block, and parts of its outputs.

    What takes the least time, by the products and transforms of the thread that has the most.

    Args:
        tiles: in all.
        groups: of outputs.
        threads: that there are.
        rows: of a product.
    """

    def time(division: tuple[int, int]) -> float:
        block, parts = division
        rounds = -(-(-(-tiles // block) * parts) // threads)
        return rounds * (_INPUT * block + groups // parts * (_KERNELS + block))

    most = _LARGEST_BLOCK // rows * rows
    blocks = range(rows, min(most, -(-tiles // rows) * rows) + 1, rows)
    parts = [n for n in range(1, groups + 1) if groups % n == 0]
    return min(((block, part) for part in parts for block in blocks), key=time)


def _channels_last(
    shape: tuple[int, int, int, int], like: Tensor, dtype: torch.dtype | None = None
) -> Tensor:
    batch, channels, height, width = shape
    memory = like.new_empty((batch, height, width, channels), dtype=dtype)
    return memory.permute(0, 3, 1, 2)


def _require(
    name: str, x: Tensor, shape: tuple[int, int, int, int], dtype: torch.dtype
) -> None:  # fmt: skip
    """Refuse what native code would read or write beyond its end."""
    dense = x.stride(1) == 1 and (x.stride(3) == shape[1] or shape[3] == 1)
    if x.shape != shape or x.dtype != dtype or not x.is_cpu or not dense:
        raise ValueError(
            f"{name} must be {dtype} {shape} on the CPU, channels-last, got {x.dtype} "
            f"{tuple(x.shape)} with strides {x.stride()} on {x.device}"
        )


@cache
def _panel() -> int:
    from stylekernels.ops.conv.winograd import panel

    return panel(lanes())


@cache
def _group() -> int:
    from stylekernels.ops.conv.winograd import group

    return group(lanes())
