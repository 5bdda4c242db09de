"""The launches that style transfer makes, for ahead-of-time compilation.

Each entry plans its launches from tensors on any device, so that the same list serves a GPU and,
with meta tensors, the compiler alone. A new kernel is a new row.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stylekernels.ops.dgrad import triton_dgrad
from stylekernels.ops.image import triton_image
from stylekernels.ops.lbfgs import triton_passes, triton_recursion
from stylekernels.ops.lbfgs.state import lbfgs_state
from stylekernels.ops.losses import triton_losses
from stylekernels.ops.pointwise import triton_stream
from stylekernels.ops.pool import triton_pool
from stylekernels.ops.spectral import triton_spectral
from stylekernels.ops.style.terms import Style, Terms
from stylekernels.ops.style.triton_backward import backward_launches
from stylekernels.ops.style.triton_launches import forward_launches
from stylekernels.ops.tv import triton_tv
from stylekernels.runtime.launch import Launch
from stylekernels.runtime.layout import empty_like
from stylekernels.tuning.shapes import HISTORIES, VGG


@dataclass(frozen=True)
class Case:
    """Dtype, size and memory format of the operands that a row plans with."""

    dtype: torch.dtype
    channels: int
    size: int
    channels_last: bool
    device: torch.device

    def activation(self, dtype: torch.dtype | None = None, size: int | None = None) -> Tensor:
        """Return an activation [1, C, size, size]."""
        shape = (1, self.channels, size or self.size, size or self.size)
        kind = torch.channels_last if self.channels_last else torch.contiguous_format
        return torch.empty(shape, dtype=dtype or self.dtype, device=self.device, memory_format=kind)

    def single(self, *shape: int) -> Tensor:
        """Return fp32 memory."""
        return torch.empty(shape, dtype=torch.float32, device=self.device)

    @property
    def square(self) -> Tensor:
        """A Gram or a target."""
        return self.single(1, self.channels, self.channels)

    @property
    def slope(self) -> Tensor:
        """An S in the dtype of the features."""
        return self.square.to(self.dtype)

    def style(self, *, uneven: bool = False) -> Style:
        """A style loss, with factors for its channels if it is `uneven`."""
        factors = self.single(self.channels) if uneven else None
        return Style(self.square, 1.0, self.single(), self.single(1), factors)


def gram(case: Case) -> list[Launch]:
    """Plan `gram` and its backward."""
    x = case.activation()
    return forward_launches(x, case.square) + backward_launches(
        x, case.slope, empty_like(x), relu=False, scale=case.single(1)
    )


def style_loss(case: Case) -> list[Launch]:
    """Plan `style_loss` and its backward."""
    x, s, style = case.activation(), case.slope, case.style()
    gradient = backward_launches(
        x, s, empty_like(x), relu=False, scale=style.scale, loss_gradient=style.loss
    )
    return forward_launches(x, s, style) + gradient


def tap_backward(case: Case) -> list[Launch]:
    """Plan `style_tap_backward_` without content and with it, and without a gradient from above."""
    x, p, g = case.activation(), case.activation(torch.float32), case.activation()
    s, scale = case.slope, case.single(1)
    return [
        *backward_launches(x, s, g, relu=True, scale=scale, incoming=g),
        *backward_launches(
            x, s, g, relu=True, scale=scale, incoming=g, content=p, content_weight=1.0
        ),
        *backward_launches(x, s, g, relu=True, scale=scale),
    ]


def uneven_tap(case: Case) -> list[Launch]:
    """Plan a tap whose channels have scales of their own, forward and backward."""
    x, p, g = case.activation(), case.activation(torch.float32), case.activation()
    s, style = case.slope, case.style(uneven=True)
    terms = Terms(relu=True, scale=style.scale, incoming=g, channel_scale=style.channel_scale)
    with_content = terms | Terms(relu=True, content=p, content_weight=1.0)
    return [
        *forward_launches(x, s, style),
        *backward_launches(x, s, g, **terms),
        *backward_launches(x, s, g, **with_content),
    ]


def pooling(case: Case) -> list[Launch]:
    """Plan both poolings, forward and backward."""
    x, y = case.activation(), case.activation(size=case.size // 2)
    code = case.activation(torch.uint8, case.size // 2)
    return [
        launch
        for maximum in (False, True)
        for launch in (
            *triton_pool.forward_launches(x, y, code, maximum=maximum),
            *triton_pool.backward_launches(y, code, x, maximum=maximum),
        )
    ]


def bias_relu(case: Case) -> list[Launch]:
    """Plan the pass behind a convolution."""
    return triton_stream.bias_relu_launches(case.activation(), case.single(case.channels))


def content(case: Case) -> list[Launch]:
    """Plan the content loss, its gradient, and its gradient added in place."""
    x, p, loss = case.activation(), case.activation(torch.float32), case.single()
    factors = case.single(case.channels)
    return [
        *triton_stream.content_forward_launches(x, p, loss, 1.0, factors),
        *triton_stream.content_backward_launches(x, p, x, 1.0, x, None, factors),
        *triton_stream.content_forward_launches(x, p, loss, 1.0),
        *triton_stream.content_backward_launches(x, p, x, 1.0, None, loss),
        *triton_stream.content_backward_launches(x, p, x, 1.0, x),
        *triton_stream.content_backward_launches(x, p, x, 1.0, x, relu=True),
        *triton_stream.content_backward_launches(x, p, x, 1.0, x, None, factors, relu=True),
    ]


def dgrad(case: Case) -> list[Launch]:
    """Plan the image's gradient behind VGG's first convolution, and in half precision its tap's."""
    layer = replace(case, channels=VGG[0][0])
    gradient, weight = layer.activation(), layer.slope.new_empty(layer.channels, 3, 3, 3)
    picture = case.single(1, 3, case.size, case.size)
    planned = triton_dgrad.launches(gradient, weight, picture)
    if case.dtype != torch.float32 and case.channels_last:
        for factors in (None, case.single(layer.channels)):
            tap = triton_dgrad.StyleTap(gradient, layer.slope, case.single(1), factors)
            planned += triton_dgrad.launches(gradient, weight, picture, tap=tap)
    precisions = ("ieee", "tf32") if case.dtype == torch.float32 else ("ieee",)
    return [
        replace(launch, constants=launch.constants | {"PRECISION": precision})
        for launch in planned
        for precision in precisions
    ]


def total_variation(case: Case) -> list[Launch]:
    """Plan both total variations of an image, and their gradients."""
    x = Case(case.dtype, 3, case.size, case.channels_last, case.device).activation()
    loss = case.single()
    return [
        launch
        for squared in (False, True)
        for launch in (
            *triton_tv.forward_launches(x, loss, 1.0, squared=squared),
            *triton_tv.backward_launches(x, x, 1.0, squared=squared, loss_gradient=loss),
            *triton_tv.backward_launches(x, x, 1.0, squared=squared, incoming=x),
        )
    ]


def image(case: Case) -> list[Launch]:
    """Plan the network's input from the image, and the image's gradient."""
    picture = case.single(1, 3, case.size, case.size)
    parts = 1 if case.dtype == torch.float32 else 2
    channels = 16 // case.dtype.itemsize
    x = Case(case.dtype, channels, case.size, case.channels_last, case.device).activation()
    launches = triton_image.gradient_launches(x, picture, 1.0)
    if case.channels_last:  # as every input is
        check = triton_image.check_of(picture)
        launches += triton_image.input_launches(picture, x, check, 1.0, parts)
    return launches


def losses(case: Case) -> list[Launch]:
    """Plan the loss terms of the paper's six layers, and their log beside either optimizer."""
    check = triton_image.check_of(case.single(1, 3, case.size, case.size))
    terms, values, log = [case.single() for _ in range(6)], case.single(6), case.single(1024, 7)
    place = torch.empty(1, dtype=torch.int64, device=case.device)
    return [
        *triton_losses.terms_launches(terms, 1.0, check, values, case.single()),
        *triton_losses.log_launches(log, place, values, place[0]),
        *triton_losses.log_launches(log, place, values, place[0].double()),
    ]


def spectrum(case: Case) -> list[Launch]:
    """Plan the gains of an image's frequencies, of even and odd numbers of them."""
    half = case.size // 2 + 1
    return [
        launch
        for rows in (case.size, case.size - 1)
        for launch in triton_spectral.spectrum_launches(
            case.single(1, 3, rows, half, 2), case.single(3, 3), case.single(3, rows, half)
        )
    ]


def optimizer(case: Case) -> list[Launch]:
    """Plan an iteration of L-BFGS, with short and long histories in `case.dtype`."""
    x, loss = case.single(case.channels * case.size * case.size), case.single()
    launches = []
    for history in HISTORIES:
        state = lbfgs_state(x, history, 1.0, case.dtype)
        launches += [
            *triton_passes.dots_launches(*state.dots_operands(x)),
            *triton_recursion.recursion_launches(*state.recursion_operands(loss)),
            *triton_passes.apply_launches(*state.apply_operands(x, x)),
        ]
    return launches


LAYER_ROWS: tuple[Callable[[Case], list[Launch]], ...] = (
    gram,
    style_loss,
    tap_backward,
    uneven_tap,
    pooling,
    bias_relu,
    content,
)
IMAGE_ROWS: tuple[Callable[[Case], list[Launch]], ...] = (dgrad, total_variation, image)
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
HISTORY_DTYPES = (torch.bfloat16, torch.float32)


def cases(
    size: int, device: torch.device
) -> Iterator[tuple[str, Callable[[Case], list[Launch]], Case]]:
    """Yield (name, row, operands) of every launch for an image of `size` pixels square."""
    for dtype in DTYPES:
        for channels_last in (True, False):
            order = "channels-last" if channels_last else "contiguous"
            kind = str(dtype).removeprefix("torch.")
            for row in IMAGE_ROWS:
                case = Case(dtype, 0, size, channels_last, device)
                yield f"{row.__name__} {kind} {order}", row, case
            for row in LAYER_ROWS:
                for channels, factor in VGG:
                    case = Case(dtype, channels, size // factor, channels_last, device)
                    yield f"{row.__name__} {kind} {order} C={channels}", row, case
    for row in (losses, spectrum):
        yield row.__name__, row, Case(torch.float32, 3, size, False, device)
    for dtype in HISTORY_DTYPES:
        kind = str(dtype).removeprefix("torch.")
        yield f"{optimizer.__name__} {kind}", optimizer, Case(dtype, 3, size, False, device)
