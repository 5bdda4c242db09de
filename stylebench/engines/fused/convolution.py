"""VGG's 3 x 3 convolution without autograd: forward with or without ReLU, and input gradient.

The weights are constants, so they are laid out once for the device. The gradient with respect to
the input of a stride-1 convolution is itself a convolution, with the kernels flipped in both
directions and inputs and outputs exchanged: it needs nothing from the forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from stylebench.engines.fused.conv_autotune import (
    ConvAlgorithm,
    backward_algorithms,
    forward_algorithms,
    select_fastest,
)
from stylebench.engines.fused.tiling import tile_size

_ONES = (1, 1)
_LARGEST_SAMPLE = 1024  # px; larger images rank the algorithms alike, and memory would be short
_Padding = tuple[int, int]  # rows, columns
_Pass = Callable[[Tensor, _Padding], Tensor]


class Convolution:
    """A frozen 3 x 3 convolution with padding 1, channels-last.

    Args:
        weight: [N_out, N_in, 3, 3] in the precision to compute in, on its device.
        bias: [N_out].
        size: (height, width) in pixels of its usual input, for which the algorithm or, on a CPU,
            the layout of the weights is chosen; CPUs take it in tiles.

    Attributes:
        outputs: N_out.
        inputs: N_in.
        chosen: "forward" and "backward" -> name of the fastest algorithm; empty except on CUDA.
    """

    def __init__(self, weight: Tensor, bias: Tensor, size: tuple[int, int]) -> None:
        self.outputs, self.inputs = weight.shape[:2]
        self.chosen: dict[str, str] = {}
        weight = pad_channels(weight, _channel_multiple(weight))
        self._channels = weight.shape[1]
        flipped = _channels_last(weight.flip(2, 3).transpose(0, 1))  # [N_in, N_out, 3, 3]
        weight = _channels_last(weight)
        if weight.is_cuda:
            forward = forward_algorithms(weight, bias)
            backward = backward_algorithms(weight, flipped)
            self._forward = _plain(weight, bias)
            self._relu = self._fastest("forward", forward, self._channels, weight, size)
            self._backward = self._fastest("backward", backward, len(bias), weight, size)
        elif packable(weight):
            packed, packed_flipped = _packed(weight, size), _packed(flipped, size)
            self._forward = _pointwise(packed, bias, "none")
            self._relu = _pointwise(packed, bias, "relu")
            self._backward = _pointwise(packed_flipped, None, "none")
        else:
            self._forward = plain = _plain(weight, bias)
            self._relu = lambda x, padding: plain(x, padding).relu_()
            self._backward = _plain(flipped, None)

    def __call__(self, x: Tensor, padding: _Padding = _ONES) -> Tensor:
        """[B, N_in, H, W] -> [B, N_out, H, W], before ReLU.

        Args:
            x: channels-last.
            padding: rows and columns. Other than (1, 1) on CPUs only, where ``x`` has rows beyond
                those of the output.
        """
        return self._forward(pad_channels(x, self._channels), padding)

    def relu(self, x: Tensor, padding: _Padding = _ONES) -> Tensor:
        """[B, N_in, H, W] -> [B, N_out, H, W], after ReLU."""
        return self._relu(pad_channels(x, self._channels), padding)

    def backward(self, gradient: Tensor, padding: _Padding = _ONES) -> Tensor:
        """Gradient of the output [B, N_out, H, W] -> gradient of the input [B, N_in, H, W]."""
        return self._backward(gradient, padding)[:, : self.inputs]

    def _fastest(
        self,
        direction: str,
        algorithms: Mapping[str, ConvAlgorithm],
        channels: int,
        like: Tensor,
        size: tuple[int, int],
    ) -> _Pass:
        # A generator of its own leaves the caller's random numbers alone.
        generator = torch.Generator(like.device).manual_seed(0)
        shape = (1, channels, *(min(side, _LARGEST_SAMPLE) for side in size))
        x = torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)
        self.chosen[direction] = select_fastest(algorithms, _channels_last(x))
        algorithm = algorithms[self.chosen[direction]]
        return lambda x, _: algorithm(x)  # all of them pad by one


def pad_channels(x: Tensor, multiple: int) -> Tensor:
    """[B, C, H, W] -> [B, C', H, W], channels-last: zeros up to the next multiple of channels.

    ``x`` itself is returned where C is a multiple. Tensor cores read their operands in vectors,
    which an image's three channels do not fill.
    """
    missing = -x.shape[1] % multiple
    if not missing:
        return x
    batch, channels, height, width = x.shape
    padded = x.new_zeros(batch, height, width, channels + missing).permute(0, 3, 1, 2)
    padded[:, :channels].copy_(x)
    return padded


def _channel_multiple(weight: Tensor) -> int:
    """Number of channels that fills a 16-byte vector on CUDA, where tensor cores read them."""
    return 16 // weight.element_size() if weight.is_cuda else 1


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def packable(weight: Tensor) -> bool:
    """Whether oneDNN can take these weights in its own layout and fuse bias and ReLU."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    operators = torch.ops.mkldnn
    if not hasattr(operators, "_convolution_pointwise"):
        return False
    if weight.dtype == torch.bfloat16:  # some processors do not even emulate it
        return operators._is_mkldnn_bf16_supported()  # noqa: SLF001
    return weight.dtype == torch.float32


def _packed(weight: Tensor, size: tuple[int, int]) -> Tensor:
    """The weights as oneDNN lays them out for tiles of an image of ``size``."""
    outputs, inputs = weight.shape[:2]
    shape = [1, inputs, *tile_size(*size, outputs, weight)]
    return torch.ops.mkldnn._reorder_convolution_weight(weight, _ONES, _ONES, _ONES, 1, shape)  # noqa: SLF001


def _pointwise(packed: Tensor, bias: Tensor | None, after: str) -> _Pass:
    """A convolution with bias and ``after`` ("none" or "relu") fused.

    It is the operator that torch.compile lowers convolutions to on a CPU.
    """
    operator = torch.ops.mkldnn._convolution_pointwise  # noqa: SLF001
    return lambda x, padding: operator(x, packed, bias, padding, _ONES, _ONES, 1, after, [], "")


def _plain(weight: Tensor, bias: Tensor | None) -> _Pass:
    return lambda x, padding: F.conv2d(x, weight, bias, padding=padding)
