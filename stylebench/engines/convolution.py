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

_ONES = (1, 1)


class Convolution:
    """A frozen 3 x 3 convolution with padding 1, channels-last.

    Args:
        weight: [N_out, N_in, 3, 3] in the precision to compute in, on its device.
        bias: [N_out].
        size: (height, width) of the image that it will mostly see, to choose a layout for.
    """

    def __init__(self, weight: Tensor, bias: Tensor, size: tuple[int, int]) -> None:
        turned = weight.flip(2, 3).transpose(0, 1)
        self._forward = _prepared(weight, bias, size)
        self._backward = _prepared(turned, None, size)

    def __call__(self, x: Tensor) -> Tensor:
        """[B, N_in, H, W] -> [B, N_out, H, W], before ReLU."""
        return self._forward(x, False)

    def relu(self, x: Tensor) -> Tensor:
        """[B, N_in, H, W] -> [B, N_out, H, W], after ReLU."""
        return self._forward(x, True)

    def backward(self, gradient: Tensor) -> Tensor:
        """Gradient [B, N_out, H, W] of the output -> that of the input [B, N_in, H, W]."""
        return self._backward(gradient, False)


def _prepared(
    weight: Tensor, bias: Tensor | None, size: tuple[int, int]
) -> Callable[[Tensor, bool], Tensor]:
    """The convolution of the given weights as a function of (x, whether a ReLU follows)."""
    if packable(weight):
        return _packed(weight, bias, size)
    weight = weight.contiguous(memory_format=torch.channels_last)

    def convolve(x: Tensor, relu: bool) -> Tensor:
        y = F.conv2d(x, weight, bias, padding=1)
        return y.relu_() if relu else y

    return convolve


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


def _packed(
    weight: Tensor, bias: Tensor | None, size: tuple[int, int]
) -> Callable[[Tensor, bool], Tensor]:
    """The operators that torch.compile lowers convolutions to on a CPU, called directly."""
    shape = [1, weight.shape[1], *size]
    plain = weight.contiguous(memory_format=torch.channels_last)
    packed = torch.ops.mkldnn._reorder_convolution_weight(plain, _ONES, _ONES, _ONES, 1, shape)  # noqa: SLF001
    operator = torch.ops.mkldnn._convolution_pointwise  # noqa: SLF001

    def convolve(x: Tensor, relu: bool) -> Tensor:
        after = "relu" if relu else "none"
        return operator(x, packed, bias, _ONES, _ONES, _ONES, 1, after, [], "")

    return convolve
