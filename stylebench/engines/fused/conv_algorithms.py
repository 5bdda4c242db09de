"""The algorithms for one convolution on CUDA, and what they should compute, in fp64.

cuDNN's fused convolution with bias and ReLU is the fastest for most shapes but slow for some, and
the gradient computed as a convolution with flipped kernels is faster or slower than cuDNN's own
gradient depending on the shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

import stylekernels as sk
from stylebench.model.precision import in_fp64
from stylekernels.ops.dgrad.op import MOST_INPUTS

ConvAlgorithm = Callable[[Tensor], Tensor]

OF_IMAGE = "stylekernels dgrad"
"""The algorithm of a gradient that can be written as the image's."""

_ONES = (1, 1)


@contextmanager
def deterministic() -> Iterator[None]:
    """Keep cuDNN within from algorithms whose order of summation varies from call to call."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before


def forward_algorithms(weight: Tensor, bias: Tensor | None) -> dict[str, ConvAlgorithm]:
    """Algorithms for convolution, bias and ReLU of x [B, N_in, H, W]; plain PyTorch first.

    Args:
        weight: [N_out, N_in, 3, 3], channels-last.
        bias: [N_out], or None, for which plain PyTorch is all there is.
    """

    @deterministic()
    def separate(x: Tensor) -> Tensor:
        return F.conv2d(x, weight, bias, padding=1).relu_()

    if bias is None:
        return {"conv, relu": separate}

    @deterministic()
    def fused(x: Tensor) -> Tensor:
        return torch.cudnn_convolution_relu(x, weight, bias, _ONES, _ONES, _ONES, 1)

    @deterministic()
    def one_pass(x: Tensor) -> Tensor:
        y = F.conv2d(x, weight, None, padding=1)
        sk.bias_relu_(y, bias)
        return y

    return {
        "conv, bias, relu": separate,
        "cudnn conv+bias+relu": fused,
        "conv, bias+relu": one_pass,
    }


def exact_forward(weight: Tensor, bias: Tensor | None) -> ConvAlgorithm:
    """Convolution, bias and ReLU in fp64."""
    exact = in_fp64(weight), None if bias is None else in_fp64(bias)
    return lambda x: F.conv2d(in_fp64(x), *exact, padding=1).relu_()


def backward_algorithms(
    weight: Tensor, flipped: Tensor, wanted: int | None = None
) -> dict[str, ConvAlgorithm]:
    """Algorithms for gradient [B, N_out, H, W] of the output -> of the input; plain PyTorch first.

    Args:
        weight: [N_out, N_in, 3, 3], channels-last.
        flipped: the same kernels flipped in both directions, [N_in, N_out, 3, 3], channels-last.
        wanted: channels of the input, its first ones, that need a gradient; all by default.
    """
    wanted = weight.shape[1] if wanted is None else wanted

    @deterministic()
    def as_forward(gradient: Tensor) -> Tensor:
        return F.conv2d(gradient, flipped, None, padding=1)[:, :wanted]

    @deterministic()
    def as_backward(gradient: Tensor) -> Tensor:
        # The gradient by itself: PyTorch's backward operator wants the input too, whose layout it
        # copies the gradient to, and no input that costs no memory has the right one.
        return F.conv_transpose2d(gradient, weight, padding=1)[:, :wanted]

    algorithms: dict[str, ConvAlgorithm] = {
        "flipped kernels": as_forward,
        "cudnn dgrad": as_backward,
    }
    if wanted > MOST_INPUTS:
        return algorithms

    @deterministic()
    def of_few(gradient: Tensor) -> Tensor:
        return sk.dgrad(gradient, weight[:, :wanted])

    return {**algorithms, OF_IMAGE: of_few}


def exact_backward(weight: Tensor, wanted: int | None = None) -> ConvAlgorithm:
    """The gradient of the input, of its ``wanted`` channels, in fp64."""
    exact = in_fp64(weight[:, :wanted])
    return lambda gradient: F.conv_transpose2d(in_fp64(gradient), exact, padding=1)


def exact_masked(weight: Tensor, mask: Tensor) -> ConvAlgorithm:
    """The masked gradient of the input in fp64, also of the last rows and columns alone."""
    exact = exact_backward(weight)

    def of_corner(gradient: Tensor) -> Tensor:
        height, width = gradient.shape[2:]
        x = exact(gradient)
        return torch.where(in_fp64(mask[..., -height:, -width:]) > 0, x, 0)

    return of_corner
