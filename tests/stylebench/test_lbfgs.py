"""LBFGS against torch.optim.LBFGS, called once an iteration so that their steps pair off."""

import copy
import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from stylebench.lbfgs import LBFGS

Problem = tuple[Callable[[Tensor], Tensor], Tensor]


def quadratic(n: int, condition: float, seed: int = 0) -> Problem:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.logspace(0, -math.log10(condition), n, dtype=torch.float64)
    centre = torch.randn(n, generator=generator, dtype=torch.float64)
    start = torch.randn(n, generator=generator, dtype=torch.float64)
    return lambda x: 0.5 * (scale.to(x) * (x - centre.to(x)) ** 2).sum(), start


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


def style(size: int, seed: int = 1) -> Problem:
    """Grams of two random convolutions against another picture's, content of a third."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((16, 3), (16, 16), (32, 16))
    weights = [
        torch.randn(a, b, 3, 3, generator=generator, dtype=torch.float64) * (2 / (9 * b)) ** 0.5
        for a, b in shapes
    ]
    pictures = torch.rand(2, 1, 3, size, size, generator=generator, dtype=torch.float64)

    def features(x: Tensor) -> list[Tensor]:
        maps = []
        for weight in weights:
            x = F.conv2d(x, weight.to(x), padding=1).relu()
            maps.append(x)
        return maps

    def gram(f: Tensor) -> Tensor:
        f = f.flatten(2)[0]
        return f @ f.T / f.shape[1]

    targets = [gram(f) for f in features(pictures[0])]
    content = features(pictures[1])[2]

    def loss(x: Tensor) -> Tensor:
        maps = features(x)
        total = F.mse_loss(maps[2], content.to(x))
        for f, target in zip(maps, targets, strict=True):
            total = total + 1e2 * F.mse_loss(gram(f), target.to(x))
        return total

    start = 0.3 * torch.randn(1, 3, size, size, generator=generator, dtype=torch.float64)
    return loss, start


PROBLEMS: dict[str, Callable[[int], Problem]] = {
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
@pytest.mark.parametrize("name", PROBLEMS)
def test_fp64_follows_torch_to_rounding_past_the_wrap(name: str, history: int) -> None:
    problem = PROBLEMS[name](0)
    oracle, pairs = torch_path(problem, history, 24, torch.float64)
    ours, our_pairs = our_path(problem, history, 24, torch.float64)
    assert our_pairs == pairs
    deviation = deviations(ours, oracle)
    assert max(deviation[:8]) < 1e-12
    # Rosenbrock's valley multiplies a difference by about four an iteration.
    assert max(deviation) < 1e-8


def test_the_problems_reach_what_they_are_there_for() -> None:
    _, pairs = torch_path(PROBLEMS["style"](0), 5, 24, torch.float64)
    assert pairs[-1] == 5, "the ring buffer has wrapped"
    _, pairs = torch_path(PROBLEMS["double well"](0), 20, 24, torch.float64)
    skipped = [a == b for a, b in pairwise(pairs)]
    assert any(skipped), "a pair was skipped"
    assert any(skipped[pairs.index(1) :]), "a pair was skipped while there were others"


@pytest.mark.parametrize("history", [5, 20])
@pytest.mark.parametrize("name", PROBLEMS)
def test_fp32_is_no_further_from_the_fp64_path_than_torch_is(name: str, history: int) -> None:
    ratios = []
    for seed in range(6):
        problem = PROBLEMS[name](seed)
        oracle, _ = torch_path(problem, history, 20, torch.float64)
        theirs = deviations(torch_path(problem, history, 20, torch.float32)[0], oracle)
        ours = deviations(our_path(problem, history, 20, torch.float32)[0], oracle)
        ratios += [math.log(a / b) for a, b in zip(ours, theirs, strict=True)]
    # One path's deviation is a single draw; the geometric mean over seeds and steps is not.
    assert math.exp(sum(ratios) / len(ratios)) < 2.0


def test_fp32_with_many_variables_is_no_further_than_torch_is() -> None:
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
def test_any_small_quadratic_takes_torchs_steps(n: int, history: int, seed: int, lr: float) -> None:
    problem = quadratic(n, 10.0, seed)
    oracle, pairs = torch_path(problem, history, 6, torch.float64, lr)
    ours, our_pairs = our_path(problem, history, 6, torch.float64, lr=lr)
    # Once the minimum is reached to rounding, whether a pair is kept is up to rounding.
    scale = max(float(x.norm()) for x in oracle)
    for a, b, ours_kept, theirs_kept in zip(ours, oracle, our_pairs, pairs, strict=True):
        if ours_kept != theirs_kept:
            break
        assert float((a - b).norm()) < 1e-7 * scale


def test_a_bf16_history_reaches_the_loss_of_an_fp32_history() -> None:
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


def test_the_step_moves_the_image_given_and_channels_last_takes_the_same_steps() -> None:
    function, start = style(16)
    paths = []
    for layout in (torch.contiguous_format, torch.channels_last):
        x = start.clone(memory_format=layout)
        address = x.data_ptr()
        optimizer = LBFGS(x, 5)
        for _ in range(10):
            loss, grad = evaluate(function, x)
            optimizer.step(grad, loss)
        loss, _ = evaluate(function, optimizer.best_image)
        assert loss == optimizer.best_loss
        assert x.data_ptr() == address
        paths.append(x)
    assert float((paths[0] - paths[1]).norm() / paths[0].norm()) < 1e-10


@pytest.mark.parametrize("history_dtype", [torch.float32, torch.bfloat16])
def test_the_same_run_twice_gives_the_same_bits(history_dtype: torch.dtype) -> None:
    problem = quadratic(20_001, 1e3)
    runs = [our_path(problem, 4, 8, torch.float32, history_dtype)[0][-1] for _ in range(2)]
    assert torch.equal(runs[0], runs[1])


@pytest.mark.parametrize("what", ["gradient nan", "gradient inf", "loss nan", "loss inf"])
def test_a_step_to_nowhere_is_rolled_back_to_the_best_image(what: str) -> None:
    function, start = style(16)
    x = start.float().clone()
    optimizer = LBFGS(x, 5)
    seen = []
    for i in range(30):
        loss, grad = evaluate(function, x)
        seen.append((float(loss), x.clone()))
        if i == 12:
            bad = float(what.split()[1])
            if what.startswith("gradient"):
                grad[0, 1, 2, 3] = bad
            else:
                loss = torch.tensor(bad)
        optimizer.step(grad, loss)
        if i == 12:
            best = min(seen[:-1], key=lambda pair: pair[0])
            assert torch.equal(x, best[1])
            assert torch.equal(optimizer.best_image, best[1])
            assert float(optimizer.best_loss) == best[0]
    assert int(optimizer.rollbacks) == 1
    assert float(evaluate(function, x)[0]) < best[0], "it goes on from there"


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


def test_a_first_gradient_that_is_not_finite_leaves_the_image_as_it_was() -> None:
    x = torch.tensor([1.0, 2.0])
    optimizer = LBFGS(x, 3)
    for _ in range(3):
        optimizer.step(torch.tensor([float("nan"), 1.0]))
    assert x.tolist() == [1.0, 2.0]
    assert int(optimizer.rollbacks) == 3
    optimizer.step(torch.tensor([1.0, 1.0]))
    # 1 / ||g||_1 = 1/2, halved by each of three rollbacks.
    assert x.tolist() == [1.0 - 1 / 16, 2.0 - 1 / 16]


def test_without_losses_a_rollback_returns_to_the_last_finite_gradient() -> None:
    x = torch.tensor([4.0, -2.0])
    optimizer = LBFGS(x, 3)
    for _ in range(3):
        last = x.clone()
        optimizer.step(torch.tensor([1.0, 0.1]) * x)
    optimizer.step(torch.tensor([float("inf"), 1.0]))
    assert torch.equal(x, last)


@pytest.mark.parametrize("history_dtype", [torch.float32, torch.bfloat16])
def test_resuming_from_a_saved_state_changes_no_bit(history_dtype: torch.dtype) -> None:
    function, start = style(16)
    x = start.float().clone()
    optimizer = LBFGS(x, 4, history_dtype=history_dtype)
    for i in range(16):
        if i == 9:
            saved, image = copy.deepcopy(optimizer.state_dict()), x.clone()
        loss, grad = evaluate(function, x)
        optimizer.step(grad, loss)
    resumed = LBFGS(image, 4, history_dtype=history_dtype)
    resumed.load_state_dict(saved)
    for _ in range(7):
        loss, grad = evaluate(function, image)
        resumed.step(grad, loss)
    assert torch.equal(image, x)
    assert torch.equal(resumed.best_image, optimizer.best_image)


def test_a_state_of_another_shape_is_refused_by_name() -> None:
    saved = LBFGS(torch.zeros(8), 4).state_dict()
    with pytest.raises(ValueError, match=r"'history'.*same image size, history"):
        LBFGS(torch.zeros(8), 5).load_state_dict(saved)
    with pytest.raises(ValueError, match="no 'gram'"):
        LBFGS(torch.zeros(8), 4).load_state_dict({k: v for k, v in saved.items() if k != "gram"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": torch.zeros(4, dtype=torch.float16)}, "image is torch.float16"),
        ({"image": torch.zeros(4), "history": 0}, "history is 0"),
        ({"image": torch.zeros(4), "lr": float("nan")}, "lr is nan"),
        ({"image": torch.zeros(4), "history_dtype": torch.float16}, "history_dtype"),
        ({"image": torch.zeros(4, 6).T}, "strides"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LBFGS(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("grad", [torch.zeros(5), torch.zeros(4, dtype=torch.float64)])
def test_a_gradient_unlike_the_image_is_refused(grad: Tensor) -> None:
    with pytest.raises(ValueError, match="expected the image's"):
        LBFGS(torch.zeros(4)).step(grad)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
@pytest.mark.parametrize("history_dtype", [torch.float32, torch.bfloat16])
def test_a_captured_step_replays_the_bits_of_steps_without_a_graph(
    history_dtype: torch.dtype,
) -> None:
    scale = torch.logspace(0, -2, 50_001, device="cuda")
    start = torch.randn(50_001, device="cuda", generator=torch.Generator("cuda").manual_seed(0))
    images = [start.clone(), start.clone()]
    optimizers = [LBFGS(x, 4, history_dtype=history_dtype) for x in images]

    def iteration(x: Tensor, optimizer: LBFGS) -> None:
        grad = scale * x
        optimizer.step(grad, 0.5 * (grad * x).sum())

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for x, optimizer in zip(images, optimizers, strict=True):
            iteration(x, optimizer)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        iteration(images[1], optimizers[1])
    for _ in range(12):
        iteration(images[0], optimizers[0])
        graph.replay()
    assert torch.equal(images[0], images[1])
    assert int(optimizers[0].state_dict()["ring"][1]) == 4
