"""VGG's 3 x 3 convolution without autograd: forward with or without ReLU, and back to its input.

The weights are constants, so they are laid out once for the device. The gradient with respect to
the input of a stride-1 convolution is itself a convolution, with the kernels turned by 180 degrees
and inputs and outputs exchanged: it needs nothing from the forward pass.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from stylebench.engines.cudnn import backward_ways, fastest, forward_ways

_ONES = (1, 1)
_LARGEST_SAMPLE = 1024  # px: larger images rank the ways alike, and need their memory themselves
_Pass = Callable[[Tensor], Tensor]


class Convolution:
    """A frozen 3 x 3 convolution with padding 1, channels-last.

    Args:
        weight: [N_out, N_in, 3, 3] in the precision to compute in, on its device.
        bias: [N_out].
        size: (height, width) of the image that it will mostly see, to choose a way for.

    Attributes:
        chosen: on CUDA, what was measured to be fastest, pass -> way.
    """

    def __init__(self, weight: Tensor, bias: Tensor, size: tuple[int, int]) -> None:
        self._inputs = weight.shape[1]
        self.chosen: dict[str, str] = {}
        weight = widened(weight, _channel_multiple(weight))
        self._channels = weight.shape[1]
        turned = _channels_last(weight.flip(2, 3).transpose(0, 1))
        weight = _channels_last(weight)
        if packable(weight):
            self._forward = _packed(weight, bias, "none", size)
            self._relu = _packed(weight, bias, "relu", size)
            self._backward = _packed(turned, None, "none", size)
            return
        forward, backward = forward_ways(weight, bias), backward_ways(weight, turned)
        self._forward = lambda x: F.conv2d(x, weight, bias, padding=1)
        self._relu = forward[self._choose("forward", forward, self._channels, weight, size)]
        self._backward = backward[self._choose("backward", backward, len(bias), weight, size)]

    def __call__(self, x: Tensor) -> Tensor:
        """[B, N_in, H, W] -> [B, N_out, H, W], before ReLU."""
        return self._forward(widened(x, self._channels))

    def relu(self, x: Tensor) -> Tensor:
        """[B, N_in, H, W] -> [B, N_out, H, W], after ReLU."""
        return self._relu(widened(x, self._channels))

    def backward(self, gradient: Tensor) -> Tensor:
        """Gradient [B, N_out, H, W] of the output -> that of the input [B, N_in, H, W]."""
        return self._backward(gradient)[:, : self._inputs]

    def _choose(
        self,
        which: str,
        ways: dict[str, _Pass],
        channels: int,
        like: Tensor,
        size: tuple[int, int],
    ) -> str:
        """The fastest way on CUDA; elsewhere the plain one."""
        if not like.is_cuda:
            return next(iter(ways))
        # A seed of its own: the caller's random numbers are not touched.
        generator = torch.Generator(like.device).manual_seed(0)
        shape = (1, channels, *(min(side, _LARGEST_SAMPLE) for side in size))
        x = torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)
        self.chosen[which] = fastest(ways, _channels_last(x))
        return self.chosen[which]


def widened(x: Tensor, multiple: int) -> Tensor:
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


def _packed(weight: Tensor, bias: Tensor | None, after: str, size: tuple[int, int]) -> _Pass:
    """The operators that torch.compile lowers convolutions to on a CPU, called directly."""
    shape = [1, weight.shape[1], *size]
    packed = torch.ops.mkldnn._reorder_convolution_weight(weight, _ONES, _ONES, _ONES, 1, shape)  # noqa: SLF001
    operator = torch.ops.mkldnn._convolution_pointwise  # noqa: SLF001
    return lambda x: operator(x, packed, bias, _ONES, _ONES, _ONES, 1, after, [], "")
