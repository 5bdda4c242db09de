"""One step of LBFGS: the image, the best image, rollbacks, and a state to resume from."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stylebench.optim.lbfgs import LBFGS

Problems = Callable[..., tuple[Callable[[Tensor], Tensor], Tensor]]


def evaluate(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    z = x.detach().clone().requires_grad_()
    loss = function(z)
    return loss.detach(), torch.autograd.grad(loss, z)[0]


def test_the_step_moves_the_image_given_and_channels_last_takes_the_same_steps(
    style: Problems,
) -> None:
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
def test_the_same_run_twice_gives_the_same_bits(
    quadratic: Problems, history_dtype: torch.dtype
) -> None:
    function, start = quadratic(20_001, 1e3)
    runs = [start.float().clone() for _ in range(2)]
    for x in runs:
        optimizer = LBFGS(x, 4, history_dtype=history_dtype)
        for _ in range(8):
            loss, grad = evaluate(function, x)
            optimizer.step(grad, loss)
    assert torch.equal(runs[0], runs[1])


@pytest.mark.parametrize("fault", ["gradient nan", "gradient inf", "loss nan", "loss inf"])
def test_a_step_that_is_not_finite_is_rolled_back_to_the_best_image(
    style: Problems, fault: str
) -> None:
    function, start = style(16)
    x = start.float().clone()
    optimizer = LBFGS(x, 5)
    seen = []
    for i in range(30):
        loss, grad = evaluate(function, x)
        seen.append((float(loss), x.clone()))
        if i == 12:
            bad = float(fault.split()[1])
            if fault.startswith("gradient"):
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
def test_resuming_from_a_saved_state_changes_no_bit(
    style: Problems, history_dtype: torch.dtype
) -> None:
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


def test_another_function_keeps_the_curvature_and_forgets_the_lowest_loss(
    quadratic: Problems,
) -> None:
    function, start = quadratic(40, 1e2)
    x = start.clone()
    optimizer = LBFGS(x, history=20)
    for _ in range(20):
        loss, grad = evaluate(function, x)
        optimizer.step(grad, loss)
    value = function(x)
    optimizer.reset_best()
    assert optimizer.best_loss == float("inf")
    _, grad = evaluate(function, x)
    optimizer.step(grad, value + 5)
    assert optimizer.best_loss == value + 5
    for _ in range(6):
        loss, grad = evaluate(function, x)
        optimizer.step(grad, loss + 5)
    assert function(x) < 0.1 * value


def test_a_state_of_another_shape_is_refused_by_name() -> None:
    saved = LBFGS(torch.zeros(8), 4).state_dict()
    with pytest.raises(ValueError, match=r"'history'.*same image size"):
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


def test_a_history_too_long_for_the_kernels_says_so(pretended_gpu: type[Tensor]) -> None:
    image = torch.zeros(8).as_subclass(pretended_gpu)
    with pytest.warns(UserWarning, match="history is 128: above 127 pairs plain PyTorch takes"):
        LBFGS(image, 128)
    LBFGS(image, 127)
    LBFGS(torch.zeros(8), 128)
