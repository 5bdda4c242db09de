"""Adam against torch.optim.Adam."""

import copy

import pytest
import torch
from torch import Tensor

from stylebench.optim.adam import Adam

SCALE = torch.logspace(0, -3, 300, dtype=torch.float64).view(1, 3, 10, 10)


def evaluate(x: Tensor) -> tuple[Tensor, Tensor]:
    grad = SCALE.to(x) * (x - 1)
    return 0.5 * (grad * (x - 1)).sum(), grad


def start(dtype: torch.dtype) -> Tensor:
    return torch.randn(1, 3, 10, 10, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 2e-6)], ids=["fp64", "fp32"]
)
@pytest.mark.parametrize("settings", [{}, {"betas": (0.8, 0.95), "eps": 1e-3}])
def test_the_steps_are_torchs(
    dtype: torch.dtype, tolerance: float, settings: dict[str, object]
) -> None:
    ours, theirs = start(dtype), start(dtype)
    optimizer = Adam(ours, 0.02, **settings)  # type: ignore[arg-type]
    reference = torch.optim.Adam([theirs], lr=0.02, foreach=False, **settings)  # type: ignore[arg-type]
    for _ in range(100):
        loss, grad = evaluate(ours)
        optimizer.step(grad, loss)
        theirs.grad = evaluate(theirs)[1]
        reference.step()
        assert float((ours - theirs).norm() / theirs.norm()) < tolerance
    assert float((ours - start(dtype)).norm()) > 1.0, "it has moved"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_is_rolled_back_to_the_best_image(bad: float) -> None:
    x = start(torch.float32)
    optimizer = Adam(x, 0.1)
    for _ in range(5):
        best, (loss, grad) = x.clone(), evaluate(x)
        optimizer.step(grad, loss)
    grad[0, 0, 0, 0] = bad
    optimizer.step(grad, loss)
    assert torch.equal(x, best)
    assert torch.equal(optimizer.best_image, best)
    assert int(optimizer.rollbacks) == 1
    assert float(optimizer.best_loss) == float(loss)
    # From here as from the start, with half the learning rate.
    optimizer.step(evaluate(x)[1])
    fresh = best.clone()
    Adam(fresh, 0.05).step(evaluate(fresh)[1])
    assert torch.equal(x, fresh)


def test_resuming_from_a_saved_state_changes_no_bit() -> None:
    x = start(torch.float32)
    optimizer = Adam(x, 0.02)
    for i in range(10):
        if i == 4:
            saved, image = copy.deepcopy(optimizer.state_dict()), x.clone()
        loss, grad = evaluate(x)
        optimizer.step(grad, loss)
    resumed = Adam(image, 0.02)
    resumed.load_state_dict(saved)
    for _ in range(6):
        loss, grad = evaluate(image)
        resumed.step(grad, loss)
    assert torch.equal(image, x)
    with pytest.raises(ValueError, match="saved 'first'"):
        Adam(torch.zeros(4), 0.02).load_state_dict(saved)


def test_a_gradient_in_another_layout_moves_the_same_pixels() -> None:
    x, y = start(torch.float32), start(torch.float32).contiguous(memory_format=torch.channels_last)
    grad = evaluate(x)[1]
    Adam(x, 0.02).step(grad)
    Adam(y, 0.02).step(grad)
    assert torch.equal(x, y)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -1.0}, "lr is -1.0"),
        ({"lr": 0.1, "betas": (0.9, 1.0)}, "betas are"),
        ({"lr": 0.1, "eps": float("nan")}, "eps is nan"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Adam(torch.zeros(4), **arguments)  # type: ignore[arg-type]


def test_a_gradient_unlike_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match="expected the image's"):
        Adam(torch.zeros(4), 0.1).step(torch.zeros(5))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
def test_a_captured_step_replays_the_bits_of_steps_without_a_graph() -> None:
    images = [start(torch.float32).cuda() for _ in range(2)]
    optimizers = [Adam(x, 0.02) for x in images]
    scale = SCALE.float().cuda()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for x, optimizer in zip(images, optimizers, strict=True):
            optimizer.step(scale * x)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizers[1].step(scale * images[1])
    for _ in range(12):
        optimizers[0].step(scale * images[0])
        graph.replay()
    assert torch.equal(images[0], images[1])
