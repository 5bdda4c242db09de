"""LBFGS against torch.optim.LBFGS, called once an iteration so that their steps pair off."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stylebench.engines import Reference
from stylebench.model.precision import PRECISIONS
from stylebench.model.presets import PRESETS, Preset
from stylebench.model.vgg import VGG19, Weights
from stylebench.optim.lbfgs import LBFGS
from stylebench.optim.torch_optimizers import TorchLBFGS

Problem = tuple[Callable[[Tensor], Tensor], Tensor]
Problems = Callable[..., Problem]
NAMES = ("ill-conditioned quadratic", "rosenbrock", "double well", "style")


def rosenbrock(n: int, seed: int = 0) -> Problem:
    generator = torch.Generator().manual_seed(seed)
    start = torch.tensor([-1.2, 1.0] * (n // 2), dtype=torch.float64)
    start += 0.05 * torch.randn(n, generator=generator, dtype=torch.float64)
    return lambda x: (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum(), start


def double_well(n: int, seed: int = 0) -> Problem:
    """Between the wells the curvature is negative, so pairs fail the curvature test."""
    generator = torch.Generator().manual_seed(seed)
    start = 0.3 * torch.randn(n, generator=generator, dtype=torch.float64)
    tilt = 0.3 * torch.randn(n, generator=generator, dtype=torch.float64)
    return lambda x: ((x**2 - 1) ** 2 - tilt.to(x) * x).sum(), start


@pytest.fixture(scope="session")
def problems(quadratic: Problems, style: Problems) -> dict[str, Problems]:
    return {
        "ill-conditioned quadratic": lambda seed: quadratic(300, 1e4, seed),
        "rosenbrock": lambda seed: rosenbrock(10, seed),
        "double well": lambda seed: double_well(50, seed),
        "style": lambda seed: style(16, seed + 1),
    }


def evaluate(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    z = x.detach().clone().requires_grad_()
    loss = function(z)
    return loss.detach(), torch.autograd.grad(loss, z)[0]


def torch_path(
    problem: Problem, history: int, iterations: int, dtype: torch.dtype, lr: float = 1.0
) -> tuple[list[Tensor], list[int]]:
    """The images after each step of torch's, and the pairs it then held."""
    function, start = problem
    x = start.to(dtype).clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [x], lr=lr, max_iter=1, tolerance_grad=-1, tolerance_change=-1, history_size=history
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = function(x)
        loss.backward()
        return loss

    images, pairs = [], []
    for _ in range(iterations):
        optimizer.step(closure)
        images.append(x.detach().double().clone())
        pairs.append(len(optimizer.state[x]["old_dirs"]))
    return images, pairs


def our_path(
    problem: Problem,
    history: int,
    iterations: int,
    dtype: torch.dtype,
    history_dtype: torch.dtype | None = None,
    lr: float = 1.0,
) -> tuple[list[Tensor], list[int]]:
    function, start = problem
    x = start.to(dtype).clone()
    optimizer = LBFGS(x, history, lr, history_dtype)
    images, pairs = [], []
    for _ in range(iterations):
        loss, grad = evaluate(function, x)
        optimizer.step(grad, loss)
        images.append(x.double().clone())
        pairs.append(int(optimizer.state_dict()["ring"][1]))
    return images, pairs


def deviations(path: list[Tensor], oracle: list[Tensor]) -> list[float]:
    return [float((a - b).norm() / b.norm()) for a, b in zip(path, oracle, strict=True)]


@pytest.mark.parametrize("history", [1, 5, 20])
@pytest.mark.parametrize("name", NAMES)
def test_fp64_follows_torch_to_rounding_past_the_wrap(
    problems: dict[str, Problems], name: str, history: int
) -> None:
    problem = problems[name](0)
    oracle, pairs = torch_path(problem, history, 24, torch.float64)
    ours, our_pairs = our_path(problem, history, 24, torch.float64)
    assert our_pairs == pairs
    deviation = deviations(ours, oracle)
    assert max(deviation[:8]) < 1e-12
    # Rosenbrock's valley multiplies a difference by about four an iteration.
    assert max(deviation) < 1e-8


SHALLOW = replace(
    PRESETS["gatys-pytorch"],
    content_layers={"relu2_2": 1.0},
    style_layers=dict.fromkeys(("relu1_1", "relu2_1", "relu3_1"), 1.0),
)


@pytest.mark.parametrize(
    "preset", [SHALLOW, pytest.param(PRESETS["gatys-pytorch"], marks=pytest.mark.slow)]
)
def test_fp64_follows_torch_on_the_networks_own_problem(weights64: Weights, preset: Preset) -> None:
    drawn = torch.rand(3, 1, 3, 32, 32, dtype=torch.float64, generator=torch.manual_seed(0))
    content, style, start = map(weights64.preprocessing.apply, drawn)
    network = VGG19(weights64, preset.deepest_layer, preset.pooling)
    double = PRECISIONS["fp64"]
    engine = Reference(network, preset.objective(32, 32), content, [style], [1.0], double)
    theirs, ours = start.clone(), start.clone()
    torchs, own = TorchLBFGS(theirs, history=5), LBFGS(ours, history=5)
    losses = []
    for _ in range(16):
        for image, optimizer in ((theirs, torchs), (ours, own)):
            terms, gradient = engine.loss_and_grad(image)
            optimizer.step(gradient, terms.total)
            losses.append(terms.total.item())
        assert float((ours - theirs).norm() / theirs.norm()) < 1e-9
    assert losses[-1] < 0.2 * losses[0], "the image has moved far"


def test_the_problems_wrap_the_history_and_skip_pairs(problems: dict[str, Problems]) -> None:
    _, pairs = torch_path(problems["style"](0), 5, 24, torch.float64)
    assert pairs[-1] == 5, "the ring buffer has wrapped"
    _, pairs = torch_path(problems["double well"](0), 20, 24, torch.float64)
    skipped = [a == b for a, b in pairwise(pairs)]
    assert any(skipped), "a pair was skipped"
    assert any(skipped[pairs.index(1) :]), "a pair was skipped while there were others"


@pytest.mark.parametrize("history", [5, 20])
@pytest.mark.parametrize("name", NAMES)
def test_fp32_is_no_further_from_the_fp64_path_than_torch_is(
    problems: dict[str, Problems], name: str, history: int
) -> None:
    ratios = []
    for seed in range(6):
        problem = problems[name](seed)
        oracle, _ = torch_path(problem, history, 20, torch.float64)
        theirs = deviations(torch_path(problem, history, 20, torch.float32)[0], oracle)
        ours = deviations(our_path(problem, history, 20, torch.float32)[0], oracle)
        ratios += [math.log(a / b) for a, b in zip(ours, theirs, strict=True)]
    # One path's deviation is a single draw; the geometric mean over seeds and steps is not.
    assert math.exp(sum(ratios) / len(ratios)) < 2.0


def test_fp32_with_many_variables_is_no_further_than_torch_is(quadratic: Problems) -> None:
    # Beyond 16,384 variables the inner products are fp32 sums of 1,024 terms, added in fp64.
    ratios = []
    for seed in range(3):
        problem = quadratic(20_001, 1e3, seed)
        oracle, _ = torch_path(problem, 6, 12, torch.float64)
        theirs = deviations(torch_path(problem, 6, 12, torch.float32)[0], oracle)
        ours = deviations(our_path(problem, 6, 12, torch.float32)[0], oracle)
        ratios += [math.log(a / b) for a, b in zip(ours, theirs, strict=True)]
    assert math.exp(sum(ratios) / len(ratios)) < 2.0


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(1, 30),
    history=st.integers(1, 7),
    seed=st.integers(0, 2**16),
    lr=st.sampled_from([1.0, 0.5]),
)
def test_any_small_quadratic_takes_torchs_steps(
    quadratic: Problems, n: int, history: int, seed: int, lr: float
) -> None:
    problem = quadratic(n, 10.0, seed)
    oracle, pairs = torch_path(problem, history, 6, torch.float64, lr)
    ours, our_pairs = our_path(problem, history, 6, torch.float64, lr=lr)
    # Once the minimum is reached to rounding, whether a pair is kept is up to rounding.
    scale = max(float(x.norm()) for x in oracle)
    for a, b, ours_kept, theirs_kept in zip(ours, oracle, our_pairs, pairs, strict=True):
        if ours_kept != theirs_kept:
            break
        assert float((a - b).norm()) < 1e-7 * scale


def test_a_bf16_history_reaches_the_loss_of_an_fp32_history(style: Problems) -> None:
    ratios = []
    for seed in range(3):
        function, start = style(16, seed + 1)
        final = []
        for dtype in (torch.float32, torch.bfloat16):
            images, _ = our_path((function, start), 10, 120, torch.float32, dtype)
            final.append(float(function(images[-1])))
        ratios.append(final[1] / final[0])
    assert math.prod(ratios) ** (1 / 3) < 1.25
    x = torch.zeros(3 * 64 * 64)
    half, full = (LBFGS(x, 20, history_dtype=d).nbytes for d in (torch.bfloat16, torch.float32))
    assert half < 0.6 * full


def test_where_torchs_path_leaves_the_domain_ours_comes_back_and_reaches_the_minimum() -> None:
    def function(x: Tensor) -> Tensor:
        return (x - x.log()).sum()  # least at 1, no number below 0

    start = torch.tensor([10.0, 8.0, 12.0])
    theirs, _ = torch_path((function, start), 5, 20, torch.float32)
    assert not bool((theirs[-1].abs() < 1e6).all()), "torch's path never comes back"
    x = start.clone()
    optimizer = LBFGS(x, 5)
    for _ in range(60):
        loss, grad = evaluate(function, x)
        optimizer.step(grad, loss)
    assert int(optimizer.rollbacks) >= 1
    assert float((x - 1).abs().max()) < 1e-4
