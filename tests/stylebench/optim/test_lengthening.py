"""L-BFGS with lengthened pairs, against the two-loop recursion written out."""

import pytest
import torch
from torch import Tensor

from stylebench.optim import lengthening
from stylebench.optim.lbfgs import LBFGS
from stylebench.optim.lengthening import STRIDE


def two_loops(function, start: Tensor, history: int, single: int, iterations: int) -> list[Tensor]:
    """The images after each step; pairs span one step for ``single`` gradients, then STRIDE."""
    x, pairs, path = start.clone(), [], []
    images, gradients = [], []
    for k in range(iterations):
        g = gradient(function, x)
        images.append(x.clone())
        gradients.append(g)
        if k:
            steps = 1 if k < single else STRIDE
            s, y = images[k] - images[k - steps], g - gradients[k - steps]
            if y @ s > 1e-10:
                pairs = [*pairs, (s, y)][-history:]
        q, alphas = -g.clone(), []
        for s, y in reversed(pairs):
            alphas.append((s @ q) / (y @ s))
            q -= alphas[-1] * y
        if pairs:
            s, y = pairs[-1]
            q *= (y @ s) / (y @ y)
        for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
            q += (alpha - (y @ q) / (y @ s)) * s
        t = 1.0 if k else min(1.0, 1.0 / g.abs().sum().item())
        x = x + t * q
        path.append(x)
    return path


def gradient(function, x: Tensor) -> Tensor:
    z = x.detach().clone().requires_grad_()
    return torch.autograd.grad(function(z), z)[0]


@pytest.fixture
def early(monkeypatch):
    """Long pairs from the eighth gradient on."""
    monkeypatch.setattr(lengthening, "WARMUP", 8)
    return 8


def test_pairs_of_several_steps_are_those_of_the_two_loops(quadratic, early):
    function, start = quadratic(60, 1e3)
    expected = two_loops(function, start, history=5, single=early, iterations=30)
    x = start.clone()
    optimizer = LBFGS(x, history=5, noisy=True)
    for wanted in expected:
        optimizer.step(gradient(function, x))
        torch.testing.assert_close(x, wanted, rtol=1e-7, atol=1e-9)
    single = two_loops(function, start, history=5, single=99, iterations=30)
    assert not torch.allclose(x, single[-1], rtol=1e-7, atol=1e-9)


def test_a_gradient_that_is_not_finite_does_not_return_in_a_later_pair(quadratic, early):
    function, start = quadratic(40, 1e2)
    x = start.clone()
    optimizer = LBFGS(x, history=5, noisy=True)
    for k in range(30):
        g = gradient(function, x)
        optimizer.step(torch.full_like(g, float("nan")) if k == 12 else g, function(x))
    assert int(optimizer.rollbacks) == 1
    assert function(x) < 1e-3 * function(start)


def test_it_resumes_with_no_bit_different(quadratic, early):
    function, start = quadratic(40, 1e2)
    x = start.clone()
    optimizer = LBFGS(x, history=5, noisy=True)
    for _ in range(12):
        optimizer.step(gradient(function, x))
    saved = {name: tensor.clone() for name, tensor in optimizer.state_dict().items()}
    other = x.clone()
    resumed = LBFGS(other, history=5, noisy=True)
    resumed.load_state_dict(saved)
    for _ in range(6):
        optimizer.step(gradient(function, x))
        resumed.step(gradient(function, other))
    assert torch.equal(x, other)


def test_another_function_keeps_the_curvature_and_forgets_the_lowest_loss(quadratic):
    function, start = quadratic(40, 1e2)
    x = start.clone()
    optimizer = LBFGS(x, history=20, noisy=True)
    for _ in range(20):
        optimizer.step(gradient(function, x), function(x))
    value = function(x)
    optimizer.reset_best()
    assert optimizer.best_loss == float("inf")
    optimizer.step(gradient(function, x), value + 5)
    assert optimizer.best_loss == value + 5
    for _ in range(6):
        optimizer.step(gradient(function, x), function(x) + 5)
    assert function(x) < 0.1 * value
