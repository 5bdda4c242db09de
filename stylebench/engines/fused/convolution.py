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

import stylekernels as sk
from stylebench.engines.fused.algorithm import Algorithm
from stylebench.engines.fused.conv_algorithms import (
    OF_IMAGE,
    ConvAlgorithm,
    backward_algorithms,
    deterministic,
    exact_backward,
    exact_forward,
    exact_masked,
    forward_algorithms,
)
from stylebench.engines.fused.conv_autotune import select_fastest
from stylebench.engines.fused.cpu_convolution import choose
from stylebench.engines.fused.cudnn_graphs import graph_forward, graph_masked_gradient
from stylebench.engines.fused.tap import StyleRows
from stylekernels.ops.conv.op import Workspace
from stylekernels.ops.pointwise.cpu import mask_

_LARGEST_SAMPLE = 1024  # px; larger images rank the algorithms alike, and memory would be short


class Convolution:
    """A frozen 3 x 3 convolution with padding 1, channels-last.

    Args:
        weight: [N_out, N_in, 3, 3] in the precision to compute in, on its device.
        bias: [N_out], or None.
        size: (height, width) in pixels of its usual input, for which the algorithm and, on a CPU,
            the layout of the weights is chosen; CPUs take it in tiles.
        workspace: the memory of Winograd convolutions, which this one may then be.
        wanted: channels of the input, its first ones, that need a gradient; all by default.

    Attributes:
        outputs: N_out.
        inputs: N_in.
        chosen: "forward" and "backward" -> name of the fastest algorithm.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        size: tuple[int, int],
        workspace: Workspace | None = None,
        wanted: int | None = None,
    ) -> None:
        self.outputs, self.inputs = weight.shape[:2]
        self._wanted = self.inputs if wanted is None else wanted
        self.chosen: dict[str, str] = {}
        weight = pad_channels(weight, _channel_multiple(weight))
        self._channels = weight.shape[1]
        flipped = _channels_last(weight.flip(2, 3).transpose(0, 1))  # [N_in, N_out, 3, 3]
        weight = _channels_last(weight)
        if weight.is_cuda:
            self._forward, self._backward = self._on_cuda(weight, bias, flipped, size)
        else:
            self.chosen["forward"], self._forward = choose(weight, bias, size, workspace)
            self.chosen["backward"], self._backward = choose(flipped, None, size, workspace)

    @property
    def padded_inputs(self) -> int:
        """Channels that an input is padded to with zeros; one that has them is not copied."""
        return self._channels

    def __call__(
        self, x: Tensor, above: bool = False, below: bool = False, into: Tensor | None = None
    ) -> Tensor:
        """[B, N_in, H, W] -> [B, N_out, H, W], before ReLU.

        Args:
            x: channels-last.
            above: whether ``x`` has a row more above those of the output, in place of the padding.
            below: likewise below.
            into: shaped as the output, which is written there if the algorithm can.
        """
        return self._forward(pad_channels(x, self._channels), above, below, False, into)

    def relu(
        self, x: Tensor, above: bool = False, below: bool = False, into: Tensor | None = None
    ) -> Tensor:
        """[B, N_in, H, W] -> [B, N_out, H, W], after ReLU."""
        return self._forward(pad_channels(x, self._channels), above, below, True, into)

    def relu_pool(
        self,
        x: Tensor,
        above: bool,
        below: bool,
        pooling: str,
        into: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """[B, N_in, H, W] -> [B, N_out, H // 2, W // 2] after ReLU and pooling, and its code."""
        padded = pad_channels(x, self._channels)
        return self._forward.pooled(padded, above, below, pooling, into)

    def backward(
        self, gradient: Tensor, above: bool = False, below: bool = False, into: Tensor | None = None
    ) -> Tensor:
        """Gradient of the output [B, N_out, H, W] -> of the input's wanted channels."""
        return self._backward(gradient, above, below, False, into)[:, : self._wanted]

    def backward_masked(self, gradient: Tensor, above: bool, below: bool, mask: Tensor) -> Tensor:
        """``backward``, with 0 where the input's ``mask`` is not above 0; over ``mask`` perhaps."""
        return self._backward.masked(gradient, above, below, mask)

    @property
    def takes_tap(self) -> bool:
        """Whether ``image_gradient`` takes a tap's gradient too: in half precision its kernel."""
        return self.chosen["backward"] == OF_IMAGE and self._weight.element_size() == 2

    def image_gradient(
        self,
        gradient: Tensor,
        above: bool,
        below: bool,
        factor: float,
        dtype: torch.dtype,
        tap: StyleRows | None = None,
    ) -> Tensor:
        """``backward`` of the first layer, the image's: times ``factor``, in ``dtype``.

        By one kernel where that is the algorithm; ``tap`` is between it and ``gradient``.
        """
        if self.chosen["backward"] == OF_IMAGE:
            weight = self._weight[:, : self._wanted]
            if tap is None:
                x = sk.dgrad(gradient, weight, factor, dtype)
            else:
                s, scale = tap.slope
                v = tap.channel_scale
                x = sk.tap_dgrad(gradient, tap.x, s, weight, scale, v, factor, dtype)
            return _inner(x, above, below)
        x = self.backward(gradient, above, below)
        return sk.image_gradient(x, factor, x.shape[1], dtype)

    def _on_cuda(
        self, weight: Tensor, bias: Tensor | None, flipped: Tensor, size: tuple[int, int]
    ) -> tuple[Algorithm, Algorithm]:
        """Forward and backward; all of their algorithms pad by one."""
        self._weight = weight
        x = _sample(self._channels, weight, size)
        forward = forward_algorithms(weight, bias)
        if bias is not None:
            (plain, *_) = forward.values()
            forward |= graph_forward(weight, bias).plans(plain, x)
        with_relu = self._fastest("forward", forward, exact_forward(weight, bias), x)
        gradient = _sample(self.outputs, weight, size)
        of_gradient = self._fastest(
            "backward",
            backward_algorithms(weight, flipped, self._wanted),
            exact_backward(weight, self._wanted),
            gradient,
        )

        @deterministic()
        def without_relu(x: Tensor) -> Tensor:
            return F.conv2d(x, weight, bias, padding=1)

        def forward_pass(x: Tensor, above: bool, below: bool, relu: bool) -> Tensor:
            return _inner(with_relu(x) if relu else without_relu(x), above, below)

        def backward_pass(gradient: Tensor, above: bool, below: bool, relu: bool) -> Tensor:
            del relu
            return _inner(of_gradient(gradient), above, below)

        masked = self._masked(of_gradient, weight, gradient, x)
        return Algorithm(forward_pass), _Backward(backward_pass, masked)

    def _masked(
        self, of_gradient: ConvAlgorithm, weight: Tensor, gradient: Tensor, mask: Tensor
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """The fastest gradient with a mask: of its operands it gets both."""

        def separate(gradient: Tensor, mask: Tensor) -> Tensor:
            return mask_(of_gradient(gradient), mask)

        graphs = graph_masked_gradient(weight).plans(separate, gradient, mask)
        if not graphs or self._wanted < self._channels:
            return separate
        of_both = {"gradient, mask": separate, **graphs}
        of_one = {name: _of_one(run, mask) for name, run in of_both.items()}
        self._fastest("masked backward", of_one, exact_masked(weight, mask), gradient)
        return of_both[self.chosen["masked backward"]]

    def _fastest(
        self,
        direction: str,
        algorithms: Mapping[str, ConvAlgorithm],
        exact: ConvAlgorithm,
        x: Tensor,
    ) -> ConvAlgorithm:
        self.chosen[direction] = select_fastest(algorithms, exact, x)
        return algorithms[self.chosen[direction]]


class _Backward(Algorithm):
    """A gradient whose mask may be part of its kernel."""

    def __init__(
        self,
        convolve: Callable[[Tensor, bool, bool, bool], Tensor],
        masked: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        super().__init__(convolve)
        self._masked = masked

    def masked(self, x: Tensor, above: bool, below: bool, mask: Tensor) -> Tensor:
        del above, below  # a GPU's maps are whole where they have a mask
        return self._masked(x, mask)


def _inner(x: Tensor, above: bool, below: bool) -> Tensor:
    """The rows of ``x`` whose neighbors were there: it was padded beyond one ``above``, ``below``.

    A view: a map that is cut into rows, as a tile's gradient is at last, is copied anyway.
    """
    return x[:, :, int(above) : x.shape[2] - int(below)] if above or below else x


def _of_one(run: Callable[[Tensor, Tensor], Tensor], mask: Tensor) -> ConvAlgorithm:
    return lambda gradient: run(gradient, mask)


def _sample(channels: int, like: Tensor, size: tuple[int, int]) -> Tensor:
    """Random input [1, channels, H, W] of ``size`` or less, on the device of ``like``."""
    # A generator of its own leaves the caller's random numbers alone.
    generator = torch.Generator(like.device).manual_seed(0)
    shape = (1, channels, *(min(side, _LARGEST_SAMPLE) for side in size))
    x = torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)
    return _channels_last(x)


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
