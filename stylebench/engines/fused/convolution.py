"""VGG's 3 x 3 convolution without autograd: forward with or without ReLU, and back to its input.

The weights are constants, so they are laid out once for the device. The gradient with respect to
the input of a stride-1 convolution is itself a convolution, with the kernels turned by 180 degrees
and inputs and outputs exchanged: it needs nothing from the forward pass.
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
_LARGEST_SAMPLE = (
    1024  # px: larger images rank the algorithms alike, and need their memory themselves
)
_Padding = tuple[int, int]  # rows, columns
_Pass = Callable[[Tensor, _Padding], Tensor]


class Convolution:
    """A frozen 3 x 3 convolution with padding 1, channels-last.

    Args:
        weight: [N_out, N_in, 3, 3] in the precision to compute in, on its device.
        bias: [N_out].
        size: (height, width) of the image that it will mostly see, to choose a algorithm for; in tiles
            on a CPU.

    Attributes:
        outputs: N_out.
        inputs: N_in.
        chosen: on CUDA, what was measured to be fastest, pass -> algorithm.
    """

    def __init__(self, weight: Tensor, bias: Tensor, size: tuple[int, int]) -> None:
        self.outputs, self.inputs = weight.shape[:2]
        self.chosen: dict[str, str] = {}
        weight = pad_channels(weight, _channel_multiple(weight))
        self._channels = weight.shape[1]
        turned = _channels_last(weight.flip(2, 3).transpose(0, 1))
        weight = _channels_last(weight)
        if weight.is_cuda:
            forward, backward = (
                forward_algorithms(weight, bias),
                backward_algorithms(weight, turned),
            )
            self._forward = _plain(weight, bias)
            self._relu = self._fastest("forward", forward, self._channels, weight, size)
            self._backward = self._fastest("backward", backward, len(bias), weight, size)
        elif packable(weight):
            packed, packed_back = _packed(weight, size), _packed(turned, size)
            self._forward = _pointwise(packed, bias, "none")
            self._relu = _pointwise(packed, bias, "relu")
            self._backward = _pointwise(packed_back, None, "none")
        else:
            self._forward = plain = _plain(weight, bias)
            self._relu = lambda x, padding: plain(x, padding).relu_()
            self._backward = _plain(turned, None)

    def __call__(self, x: Tensor, padding: _Padding = _ONES) -> Tensor:
        """[B, N_in, H, W] -> [B, N_out, H, W], before ReLU.

        Args:
            x: channels-last.
            padding: rows and columns; another than one each is for CPUs, and for what ``x`` itself
                has beyond the rows asked for.
        """
        return self._forward(pad_channels(x, self._channels), padding)

    def relu(self, x: Tensor, padding: _Padding = _ONES) -> Tensor:
        """[B, N_in, H, W] -> [B, N_out, H, W], after ReLU."""
        return self._relu(pad_channels(x, self._channels), padding)

    def backward(self, gradient: Tensor, padding: _Padding = _ONES) -> Tensor:
        """Gradient [B, N_out, H, W] of the output -> that of the input [B, N_in, H, W]."""
        return self._backward(gradient, padding)[:, : self.inputs]

    def _fastest(
        self,
        which: str,
        algorithms: Mapping[str, ConvAlgorithm],
        channels: int,
        like: Tensor,
        size: tuple[int, int],
    ) -> _Pass:
        # A seed of its own: the caller's random numbers are not touched.
        generator = torch.Generator(like.device).manual_seed(0)
        shape = (1, channels, *(min(side, _LARGEST_SAMPLE) for side in size))
        x = torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)
        self.chosen[which] = select_fastest(algorithms, _channels_last(x))
        algorithm = algorithms[self.chosen[which]]
        return lambda x, _: algorithm(x)  # all of them pad by one


def pad_channels(x: Tensor, multiple: int) -> Tensor:
    """[B, C, H, W] with zeros for channels up to the next multiple; ``x`` itself if there is one.

    Tensor cores take their operands in vectors, which an image's three channels do not fill.
    """
    missing = -x.shape[1] % multiple
    if not missing:
        return x
    batch, channels, height, width = x.shape
    wide = x.new_zeros(batch, height, width, channels + missing).permute(0, 3, 1, 2)
    wide[:, :channels].copy_(x)
    return wide


def _channel_multiple(weight: Tensor) -> int:
    """Channels that fill a 16-byte vector, where tensor cores read them."""
    return 16 // weight.element_size() if weight.is_cuda else 1


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def packable(weight: Tensor) -> bool:
    """Whether oneDNN keeps these weights in its own layout and fuses bias and ReLU."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    operators = torch.ops.mkldnn
    if not hasattr(operators, "_convolution_pointwise"):
        return False
    if weight.dtype == torch.bfloat16:  # refused by processors that do not even emulate it
        return operators._is_mkldnn_bf16_supported()  # noqa: SLF001
    return weight.dtype == torch.float32


def _packed(weight: Tensor, size: tuple[int, int]) -> Tensor:
    """The weights as oneDNN lays them out for tiles of an image of ``size``."""
    outputs, inputs = weight.shape[:2]
    shape = [1, inputs, *tile_size(*size, outputs, weight)]
    return torch.ops.mkldnn._reorder_convolution_weight(weight, _ONES, _ONES, _ONES, 1, shape)  # noqa: SLF001


def _pointwise(packed: Tensor, bias: Tensor | None, after: str) -> _Pass:
    """The operator that torch.compile lowers convolutions to on a CPU, called directly."""
    operator = torch.ops.mkldnn._convolution_pointwise  # noqa: SLF001
    return lambda x, padding: operator(x, packed, bias, padding, _ONES, _ONES, 1, after, [], "")


def _plain(weight: Tensor, bias: Tensor | None) -> _Pass:
    return lambda x, padding: F.conv2d(x, weight, bias, padding=padding)
