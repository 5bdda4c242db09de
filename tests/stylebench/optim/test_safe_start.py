"""The safe start of LBFGS: steps that fp32 can see, and no leap."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from stylebench.optim.lbfgs import LBFGS

Problem = tuple[Callable[[Tensor], Tensor], Tensor]
LEVEL = 1 / 255


def evaluate(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    z = x.detach().clone().requires_grad_()
    loss = function(z)
    return loss.detach(), torch.autograd.grad(loss, z)[0]


def path(
    function: Callable[[Tensor], Tensor], start: Tensor, steps: int, level: float | None
) -> list[Tensor]:
    """The images of a run, the start first."""
    x = start.clone()
    optimizer = LBFGS(x, 10, level=level)
    images = [x.clone()]
    for _ in range(steps):
        loss, grad = evaluate(function, x)
        optimizer.step(grad, loss)
        images.append(x.clone())
    return images


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e9])
def test_the_first_step_is_a_grey_level_whatever_the_losss_scale(
    style: Callable[..., Problem], factor: float
) -> None:
    function, start = style(16)
    before, after = path(lambda x: factor * function(x), start.float(), 1, LEVEL)
    assert float((after - before).abs().mean()) == pytest.approx(LEVEL, rel=1e-4)


@pytest.mark.parametrize("unit", [255.0, 1e-3])
def test_the_images_unit_changes_nothing_but_the_unit(
    style: Callable[..., Problem], unit: float
) -> None:
    function, start = style(16)
    plain = path(function, start, 20, LEVEL)
    scaled = path(lambda x: function(x / unit), start * unit, 20, LEVEL * unit)
    assert float((scaled[-1] / unit - plain[-1]).norm() / plain[-1].norm()) < 1e-6
    assert float((plain[-1] - start).abs().mean()) > 5 * LEVEL, "the image has moved far"


def test_no_value_moves_by_more_than_32_levels_a_step() -> None:
    def quartic(x: Tensor) -> Tensor:
        return (x**4).sum()  # flat at the start of most values: L-BFGS steps far

    start = torch.linspace(0.01, 1.0, 500)
    limited, free = (path(quartic, start, 12, level) for level in (LEVEL, None))
    changes = [float((b - a).abs().max()) for a, b in pairwise(limited)]
    assert max(changes) <= 32 * LEVEL * (1 + 1e-5)
    assert max(changes) > 31 * LEVEL, "the limit was met"
    assert max(float((b - a).abs().max()) for a, b in pairwise(free)) > 32 * LEVEL


def test_while_there_is_no_pair_every_step_is_a_grey_level() -> None:
    gradient = torch.tensor([1e6, -2e6, 3e6])
    safe, torchs = torch.zeros(3), torch.zeros(3)
    optimizers = LBFGS(safe, 5, level=LEVEL), LBFGS(torchs, 5)
    for step in range(1, 4):
        for optimizer in optimizers:
            optimizer.step(gradient)  # the same everywhere: y is 0, and no pair is kept
        assert float(safe.abs().mean()) == pytest.approx(step * LEVEL, rel=1e-5)
    assert float(torchs.abs().max()) > 1e6, "torch's second step is the gradient"


def test_a_pair_is_judged_by_its_angle_and_not_by_its_size() -> None:
    scale = torch.tensor([1.0, 0.5, 0.25])
    for level, kept in ((1e-9, 1), (None, 0)):
        x = 1e-9 * torch.ones(3)
        optimizer = LBFGS(x, 5, level=level)
        for _ in range(2):
            optimizer.step(scale * x)
        assert int(optimizer.state_dict()["ring"][1]) == kept


def test_a_leap_is_rolled_back_and_a_rise_is_not(style: Callable[..., Problem]) -> None:
    function, start = style(16)
    for factor, rollbacks in ((9.0, 0), (11.0, 1)):
        x = start.float().clone()
        optimizer = LBFGS(x, 5, level=LEVEL)
        for _ in range(8):
            loss, grad = evaluate(function, x)
            optimizer.step(grad, loss)
        best = optimizer.best_image.clone()
        _, grad = evaluate(function, x)
        optimizer.step(grad, factor * optimizer.best_loss)
        assert int(optimizer.rollbacks) == rollbacks
        assert torch.equal(x, best) == bool(rollbacks)


def test_a_gradient_of_zero_leaves_the_image() -> None:
    x = torch.ones(4)
    optimizer = LBFGS(x, 5, level=LEVEL)
    for _ in range(3):
        optimizer.step(torch.zeros(4), torch.zeros(()))
    assert torch.equal(x, torch.ones(4))


@pytest.mark.parametrize("level", [0.0, -1.0, float("nan")])
def test_a_level_that_cannot_be_is_named(level: float) -> None:
    with pytest.raises(ValueError, match="level is"):
        LBFGS(torch.zeros(4), level=level)


@pytest.mark.parametrize("reach", [0.5, -1.0, float("nan")])
def test_a_reach_that_cannot_be_is_named(reach: float) -> None:
    with pytest.raises(ValueError, match="reach is"):
        LBFGS(torch.zeros(4), reach=reach)
