"""One step a call changes nothing about torch's optimizers; convergence is reported."""

import pytest
import torch

from stylebench.optim.torch_optimizers import TorchAdam, TorchLBFGS

SCALES = torch.logspace(0, 3, 20, dtype=torch.float64)


def quadratic(x):
    return 0.5 * (SCALES * x.square()).sum()


def start():
    return torch.ones(20, dtype=torch.float64)


def follow(optimizer, x, steps):
    for _ in range(steps):
        if optimizer.step(SCALES * x, quadratic(x)):
            break
    return x


@pytest.mark.parametrize("history", [3, 100])
def test_lbfgs_step_by_step_is_torchs_one_long_call(history):
    x = start()
    follow(TorchLBFGS(x, history), x, 30)
    y = start().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [y], max_iter=30, max_eval=100, history_size=history, tolerance_grad=-1, tolerance_change=-1
    )

    def closure():
        y.grad = SCALES * y.detach()
        return quadratic(y.detach())

    optimizer.step(closure)
    assert torch.equal(x, y.detach())


def test_adam_is_torchs():
    x, y = start(), start().requires_grad_()
    follow(TorchAdam(x, 0.1), x, 20)
    optimizer = torch.optim.Adam([y], lr=0.1)
    for _ in range(20):
        y.grad = SCALES * y.detach()
        optimizer.step()
    assert torch.equal(x, y.detach())


def test_lbfgs_never_stops_by_itself_with_negative_tolerances():
    x = start()
    optimizer = TorchLBFGS(x)
    assert not any(optimizer.step(SCALES * x, quadratic(x)) for _ in range(100))


@pytest.mark.parametrize("tolerance", [{"tolerance_grad": 1e-3}, {"tolerance_change": 1e-6}])
def test_lbfgs_reports_convergence(tolerance):
    x = start()
    optimizer = TorchLBFGS(x, **tolerance)
    steps = next(i for i in range(500) if optimizer.step(SCALES * x, quadratic(x)))
    assert 1 < steps < 499
    assert quadratic(x) < 1e-4


def test_learning_rate_scales_the_step():
    x, y = start(), start()
    TorchLBFGS(x, learning_rate=1.0).step(SCALES * x, quadratic(x))
    TorchLBFGS(y, learning_rate=0.5).step(SCALES * y, quadratic(y))
    torch.testing.assert_close(2 * (start() - y), start() - x)
