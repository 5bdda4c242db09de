"""The launches that style transfer makes: what is compiled ahead of time, and what is tuned.

Each entry plans its launches from tensors on any device, so that the same list serves a GPU and,
with meta tensors, the compiler alone. A new kernel is a new row.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from stylekernels.device import lbfgs, lbfgs_recursion, pool, stream, tap, tv
from stylekernels.device.launch import Launch
from stylekernels.layout import empty_like
from stylekernels.lbfgs_state import lbfgs_state

VGG = ((64, 1), (128, 2), (256, 4), (512, 8), (512, 16))
"""Channels of relu1_1 .. relu5_1, and by how much each is smaller than the image."""

HISTORIES = (20, 100)
"""Pairs that L-BFGS keeps: the recursion's matrices at their usual size, and among the largest."""


@dataclass(frozen=True)
class Case:
    """The operands that the rows below have to plan with."""

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
        """A Gram, a target or an S."""
        return self.single(1, self.channels, self.channels)


def gram(case: Case) -> list[Launch]:
    """Plan `gram` and its backward."""
    x = case.activation()
    return tap.forward_launches([x], [case.square]) + tap.backward_launches(
        [x], [case.square], [empty_like(x)], relu=False
    )


def style_loss(case: Case) -> list[Launch]:
    """Plan `style_loss` and its backward."""
    x = case.activation()
    return tap.forward_launches(
        [x], [case.square], targets=[case.square], weights=[1.0], losses=case.single(1, 2)
    ) + tap.backward_launches(
        [x], [case.square], [empty_like(x)], relu=False, loss_gradients=[case.single(2)]
    )


def style_tap(case: Case) -> list[Launch]:
    """Plan `style_tap_forward_` and `style_tap_backward_`, as an engine calls them."""
    z = case.activation()
    return tap.forward_launches(
        [z], [case.square], targets=[case.square], weights=[1.0], losses=case.single(1, 2), ys=[z]
    ) + tap.backward_launches([z], [case.square], [z], relu=True, incoming=[z])


def style_tap_with_content(case: Case) -> list[Launch]:
    """Plan `style_tap` with its optional content term, as autograd calls it."""
    z, y = case.activation(), case.activation()
    p, losses = case.activation(torch.float32), case.single(1, 2)
    return tap.forward_launches(
        [z],
        [case.square],
        targets=[case.square],
        weights=[1.0],
        losses=losses,
        ys=[y],
        contents=[p],
        content_weights=[1.0],
    ) + tap.backward_launches(
        [y],
        [case.square],
        [z],
        relu=True,
        incoming=[y],
        loss_gradients=[losses[0]],
        contents=[p],
        content_weights=[1.0],
    )


def pooling(case: Case) -> list[Launch]:
    """Plan both poolings, forward and backward."""
    x, y = case.activation(), case.activation(size=case.size // 2)
    code = case.activation(torch.uint8, case.size // 2)
    return [
        launch
        for maximum in (False, True)
        for launch in (
            *pool.forward_launches(x, y, code, maximum=maximum),
            *pool.backward_launches(y, code, x, maximum=maximum),
        )
    ]


def bias_relu(case: Case) -> list[Launch]:
    """Plan the pass behind a convolution."""
    return stream.bias_relu_launches(case.activation(), case.single(case.channels))


def content(case: Case) -> list[Launch]:
    """Plan the content loss, its gradient, and its gradient added in place."""
    x, p, loss = case.activation(), case.activation(torch.float32), case.single()
    return [
        *stream.content_forward_launches(x, p, loss, 1.0),
        *stream.content_backward_launches(x, p, x, 1.0, None, loss),
        *stream.content_backward_launches(x, p, x, 1.0, x),
    ]


def total_variation(case: Case) -> list[Launch]:
    """Plan both total variations of an image, and their gradients."""
    x = Case(case.dtype, 3, case.size, case.channels_last, case.device).activation()
    loss = case.single()
    return [
        launch
        for squared in (False, True)
        for launch in (
            *tv.forward_launches(x, loss, 1.0, squared=squared),
            *tv.backward_launches(x, x, 1.0, squared=squared, loss_gradient=loss),
            *tv.backward_launches(x, x, 1.0, squared=squared, incoming=x),
        )
    ]


def group(case: Case) -> list[Launch]:
    """Plan the style losses of all five layers at once; `case.channels` is not looked at."""
    layers = [
        Case(case.dtype, channels, case.size // factor, case.channels_last, case.device)
        for channels, factor in VGG
    ]
    xs = [layer.activation() for layer in layers]
    squares = [layer.square for layer in layers]
    factors = [case.single(2) for _ in layers]
    weights = [1.0] * len(layers)
    losses = case.single(len(layers), 2)
    return tap.forward_launches(
        xs, squares, targets=squares, weights=weights, losses=losses
    ) + tap.backward_launches(xs, squares, xs, relu=False, loss_gradients=factors)


def optimiser(case: Case) -> list[Launch]:
    """Plan an iteration of L-BFGS, with short and long histories in `case.dtype`."""
    x, loss = case.single(case.channels * case.size * case.size), case.single()
    launches = []
    for history in HISTORIES:
        state = lbfgs_state(x, history, 1.0, case.dtype)
        launches += [
            *lbfgs.dots_launches(x, state.previous, state.history, state.ring, state.partials),
            *lbfgs_recursion.recursion_launches(
                state.partials, loss, state.gram, state.ring, state.scalars, state.coefficients
            ),
            *lbfgs.apply_launches(
                x, state.coefficients, state.ring, x, state.best, state.previous, state.history
            ),
        ]
    return launches


LAYER_ROWS: tuple[Callable[[Case], list[Launch]], ...] = (
    gram,
    style_loss,
    style_tap,
    style_tap_with_content,
    pooling,
    bias_relu,
    content,
)
IMAGE_ROWS: tuple[Callable[[Case], list[Launch]], ...] = (total_variation, group)
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
HISTORY_DTYPES = (torch.bfloat16, torch.float32)


def cases(
    size: int, device: torch.device
) -> Iterator[tuple[str, Callable[[Case], list[Launch]], Case]]:
    """Yield (name, row, operands) of everything an image of `size` pixels square launches."""
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
    for dtype in HISTORY_DTYPES:
        kind = str(dtype).removeprefix("torch.")
        yield f"{optimiser.__name__} {kind}", optimiser, Case(dtype, 3, size, False, device)
