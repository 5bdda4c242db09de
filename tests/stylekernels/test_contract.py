"""The promises that every operator makes, over one table of operators.

Every layout is read, bits repeat, NaN and infinity pass, second derivatives are refused.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

import stylekernels as sk
from stylekernels.ops.pointwise import naive as pointwise
from stylekernels.ops.pool import naive as pool
from stylekernels.ops.style import naive as style
from stylekernels.ops.tv import naive as tv

WEIGHT = 0.5


def target(x: Tensor) -> Tensor:
    """A symmetric Gram target [C, C] in the dtype of sums over `x`."""
    values = torch.linspace(0, 1, x.shape[1], device=x.device, dtype=wide(x))
    return values[:, None] * values


def picture(x: Tensor) -> Tensor:
    """A content target shaped as `x`, dense."""
    values = torch.linspace(-1, 1, x.numel(), device=x.device, dtype=wide(x))
    return values.view(x.shape)


def wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


@dataclass(frozen=True)
class Function:
    """A differentiable function of one activation, and its formula."""

    run: Callable[[Tensor], Tensor]
    naive: Callable[[Tensor], Tensor]


FUNCTIONS = {
    "gram": Function(sk.gram, style.gram),
    "style_loss": Function(
        lambda x: sk.style_loss(x, target(x), WEIGHT),
        lambda x: style.style_loss(x, target(x), WEIGHT),
    ),
    "content_loss": Function(
        lambda x: sk.content_loss(x, picture(x), WEIGHT),
        lambda x: pointwise.content_loss(x, picture(x), WEIGHT),
    ),
    "relu_avg_pool2d": Function(sk.relu_avg_pool2d, pool.relu_avg_pool2d),
    "relu_max_pool2d": Function(sk.relu_max_pool2d, pool.relu_max_pool2d),
    "tv_loss l1": Function(lambda x: sk.tv_loss(x, WEIGHT), lambda x: tv.tv_loss(x, WEIGHT)),
    "tv_loss l2": Function(
        lambda x: sk.tv_loss(x, WEIGHT, "l2"), lambda x: tv.tv_loss(x, WEIGHT, "l2")
    ),
}


def channels(name: str, many: int) -> int:
    """Channels of an operand: total variation is of an image, a program a row of a channel."""
    return 4 if name.startswith("tv") else many


functions = pytest.mark.parametrize("name", FUNCTIONS)


def result_and_gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """The result, and the gradient of a sum of it with weights that differ."""
    x = x.detach().requires_grad_()
    result = function(x)
    weights = torch.linspace(1, 2, result.numel(), device=x.device, dtype=wide(x))
    (gradient,) = torch.autograd.grad((result * weights.view(result.shape)).sum(), x)
    return result.detach(), gradient


@functions
def test_results_and_gradients_are_right_in_every_layout(name, layout, activation, no_worse_than):
    x = activation((2, channels(name, 24), 7, 9), torch.float32, layout)
    function = FUNCTIONS[name]
    values = result_and_gradient(function.run, x)
    plains = result_and_gradient(function.naive, x)
    oracles = result_and_gradient(function.naive, x.double().cpu())
    for value, plain, oracle in zip(values, plains, oracles, strict=True):
        no_worse_than(value, plain, oracle, ulps=16 if oracle.dim() == 0 else 1)
    kinds = (torch.contiguous_format, torch.channels_last)
    assert any(values[1].is_contiguous(memory_format=kind) for kind in kinds), "it is dense"


@functions
def test_the_same_bits_come_out_every_time(name, activation):
    for dtype in (torch.float32, torch.float16):
        x = activation((1, channels(name, 70), 9, 7), dtype)
        first, again = (result_and_gradient(FUNCTIONS[name].run, x) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # NumPy's matmul
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@functions
def test_what_is_not_finite_passes_as_in_plain_torch(name, value, activation):
    windows = ((0, 0), (0, 1), (1, 0), (1, 1)) if "pool" in name else ((2, 2),)
    for position in windows:
        x = activation((1, channels(name, 20), 6, 4))
        x[0, 3, position[0], position[1]] = value
        function = FUNCTIONS[name]
        ours, plain = (result_and_gradient(run, x) for run in (function.run, function.naive))
        assert torch.equal(ours[0].isnan(), plain[0].isnan())
        assert torch.equal(ours[0].isinf(), plain[0].isinf())
        if name not in {"gram", "style_loss"}:  # products of inf and 0 depend on their order
            assert torch.equal(ours[1].isnan(), plain[1].isnan())
        elif value != value:
            assert ours[1].isnan().any()


@functions
def test_a_second_derivative_is_refused(name, activation):
    x = activation((1, 4, 4, 4)).requires_grad_()
    result = FUNCTIONS[name].run(x).square().sum()
    (first,) = torch.autograd.grad(result, x, create_graph=True)
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        first.sum().backward()


@pytest.mark.parametrize("name", ["style_loss", "content_loss"])
def test_a_target_has_no_gradient(name, activation):
    x = activation((1, 4, 3, 3))
    goal = (target(x) if name == "style_loss" else picture(x)).requires_grad_()
    with pytest.raises(NotImplementedError, match="no gradient for its target"):
        getattr(sk, name)(x, goal, 1.0).backward()
