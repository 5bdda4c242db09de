"""The L-BFGS operators: against fp64, and against the two loops written out."""

from dataclasses import replace
from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

from stylekernels.ops.lbfgs import cpu, naive
from stylekernels.ops.lbfgs import op as lbfgs
from stylekernels.ops.lbfgs.state import (
    REACH,
    REACH_FALLS,
    REACH_GROWS,
    ROLL_BACK,
    ROW,
    LBFGSState,
    lbfgs_state,
    split_length,
)

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPES = pytest.mark.parametrize(
    ("dtype", "history_dtype"),
    [
        (torch.float32, torch.float32),
        (torch.float32, torch.bfloat16),
        (torch.float64, torch.float64),
    ],
    ids=["fp32", "bf16", "fp64"],
)


def advance(
    state: LBFGSState, x: Tensor, grad: Tensor, loss: Tensor, scaled: Tensor | None = None
) -> None:
    lbfgs.lbfgs_dots(*state.dots_operands(grad, scaled))
    lbfgs.lbfgs_recursion(*state.recursion_operands(loss))
    lbfgs.lbfgs_apply(*state.apply_operands(grad, x, scaled))


def descend(
    n: int,
    history: int,
    iterations: int,
    dtype: torch.dtype,
    history_dtype: torch.dtype,
    reach: float = 1.0,
) -> tuple[LBFGSState, Tensor, Tensor]:
    """A state after some steps down a quadratic; the image and its next gradient."""
    generator = torch.Generator().manual_seed(n)
    scale = torch.logspace(0, -2, n, dtype=dtype, device=DEVICE)
    x = torch.randn(n, generator=generator).to(DEVICE, dtype)
    state = lbfgs_state(x, history, 1.0, history_dtype, reach=reach)
    for _ in range(iterations):
        grad = scale * x
        advance(state, x, grad, 0.5 * (grad * x).sum())
    return state, x, scale * x


def pairs_in_order(state: LBFGSState) -> tuple[Tensor, Tensor]:
    """S and Y [count, stride] in fp64, oldest first."""
    head, count = state.ring[:2].tolist()
    slots = [(head - k) % state.history.shape[0] for k in range(count, 0, -1)]
    kept = state.history[slots].double()
    return kept[:, 0], kept[:, 1]


@DTYPES
@pytest.mark.parametrize(("n", "iterations"), [(1, 2), (700, 3), (1024, 9), (20_001, 7)])
def test_the_inner_products_are_those_of_the_stored_vectors(
    n: int, iterations: int, dtype: torch.dtype, history_dtype: torch.dtype
) -> None:
    state, _, grad = descend(n, 4, iterations, dtype, history_dtype)
    y = (grad - state.previous[0, :n]).to(history_dtype)
    state = replace(state, partials=torch.full_like(state.partials, float("nan")))
    lbfgs.lbfgs_dots(*state.dots_operands(grad))
    head, count = state.ring[:2].tolist()
    assert torch.equal(state.history[head, 1, :n], y)
    assert not state.history[:, :, n:].any(), "the padding stays zero"
    used = 2 * (count + 1)
    rows = state.history.flatten(0, 1)[:used, :n].double()
    vectors = torch.stack((grad.double(), y.double()))
    found = state.partials.sum(0)
    # The oracle sums in fp64 too: against it an fp64 sum is off by the rounding of both.
    units = 64 if dtype == torch.float64 else 4
    bound = units * torch.finfo(dtype).eps * rows.norm(dim=1)[:, None] * vectors.norm(dim=1)
    assert bool(((found[:used] - naive.inner_products(rows, vectors)).abs() <= bound).all())
    assert found.isfinite().all()
    expected = torch.stack((grad.double().square().sum(), grad.double().abs().sum()))
    torch.testing.assert_close(found[-2], expected, rtol=1e-6, atol=0.0)
    s = state.history[head, 0].double()
    torch.testing.assert_close(found[-1, 0], s.square().sum(), rtol=1e-6, atol=0.0)


@DTYPES
@pytest.mark.parametrize("iterations", [1, 2, 4, 6, 13])
def test_the_step_is_that_of_the_two_loops_over_the_stored_pairs(
    iterations: int, dtype: torch.dtype, history_dtype: torch.dtype
) -> None:
    n = 1500
    state, x, grad = descend(n, 4, iterations, dtype, history_dtype)
    before = x.clone()
    advance(state, x, grad, torch.zeros((), dtype=dtype, device=DEVICE))
    S, Y = pairs_in_order(state)
    assert len(S) == min(iterations, 4)
    r = naive.direction(grad.double(), S[:, :n], Y[:, :n])
    step = state.history[int(state.ring[0]), 0, :n].double()
    unit = max(torch.finfo(history_dtype).eps, 1e-5 if dtype == torch.float32 else 1e-12)
    assert float((step - r).norm() / r.norm()) < unit
    moved = (x.double() - before.double() - step).abs().max()
    assert float(moved) <= torch.finfo(dtype).eps * float(before.abs().max())


@DTYPES
@pytest.mark.parametrize("iterations", [1, 2, 4, 9])
def test_a_preconditioned_step_is_that_of_two_loops_that_begin_with_it(
    iterations: int, dtype: torch.dtype, history_dtype: torch.dtype
) -> None:
    n = 1500
    generator = torch.Generator().manual_seed(iterations)
    scale = torch.logspace(0, -2, n, dtype=dtype, device=DEVICE)
    gains = torch.logspace(0, 1, n, dtype=dtype, device=DEVICE)
    x = torch.randn(n, generator=generator).to(DEVICE, dtype)
    state = lbfgs_state(x, 4, 1.0, history_dtype)
    for _ in range(iterations + 1):
        grad = scale * x
        advance(state, x, grad, 0.5 * (grad * x).sum(), gains * grad)
    S, scaled = (pairs[:, :n] for pairs in pairs_in_order(state))
    P = gains.double()
    r = naive.direction(grad.double(), S, scaled / P, lambda v: P * v)
    step = state.history[int(state.ring[0]), 0, :n].double()
    unit = max(4 * torch.finfo(history_dtype).eps, 1e-5 if dtype == torch.float32 else 1e-12)
    assert len(S) == min(iterations, 4)
    assert float((step - r).norm() / r.norm()) < unit
    plain = naive.direction(grad.double(), S, scaled / P)
    assert float((step - plain).norm() / plain.norm()) > 0.1, "the gains are felt"


@DTYPES
def test_a_step_that_reaches_further_is_that_of_two_loops_that_do(
    dtype: torch.dtype, history_dtype: torch.dtype
) -> None:
    n = 1500
    state, x, grad = descend(n, 4, 4, dtype, history_dtype, reach=5.0)
    state.scalars[REACH] = 4.0
    advance(state, x, grad, torch.zeros((), dtype=dtype, device=DEVICE))
    assert float(state.scalars[REACH]) == pytest.approx(4.0 * REACH_GROWS)
    S, Y = (pairs[:, :n] for pairs in pairs_in_order(state))
    r, near = (naive.direction(grad.double(), S, Y, reach=by) for by in (4.0 * REACH_GROWS, 1.0))
    step = state.history[int(state.ring[0]), 0, :n].double()
    unit = max(torch.finfo(history_dtype).eps, 1e-5 if dtype == torch.float32 else 1e-12)
    assert float((step - r).norm() / r.norm()) < unit
    assert float((step - near).norm() / near.norm()) > 0.1, "the reach is felt"


def test_the_reach_grows_as_the_loss_falls_and_falls_as_it_rises() -> None:
    scale = torch.logspace(0, -2, 700, device=DEVICE)
    x = torch.randn(700, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    state = lbfgs_state(x, 4, 1.0, torch.float32, level=1.0, reach=1.2)
    losses = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 4.0, 5.0, 4.0, float("nan"), 3.0, 2.0]
    found = []
    for loss in losses:
        advance(state, x, scale * x, torch.tensor(loss, device=DEVICE))
        found.append(float(state.scalars[REACH]))
    now, expected = 1.0, [1.0]  # there is no pair yet
    for before, loss in pairwise(losses[:10]):
        now = max(1.0, min(1.2, now * (REACH_FALLS if loss > before else REACH_GROWS)))
        expected.append(now)
    expected += [1.0, 1.0, REACH_GROWS]  # a rollback begins anew
    assert found == pytest.approx(expected)
    assert {1.0, REACH_GROWS, 1.2} <= set(expected), "both ends are met"


@DTYPES
def test_the_inverse_is_kept_without_error_building_up(
    dtype: torch.dtype, history_dtype: torch.dtype
) -> None:
    state, _, _ = descend(3000, 5, 40, dtype, history_dtype)
    S, Y = pairs_in_order(state)
    head = int(state.ring[0])
    order = [(head - k) % 6 for k in range(5, 0, -1)]
    inverse = state.gram[0][order][:, order].double()
    identity = torch.eye(5, dtype=torch.float64, device=DEVICE)
    # From products of fp32 vectors, hence 1e-4; a wrong entry is of the order of one.
    assert float((inverse @ (S @ Y.T).triu() - identity).abs().max()) < 1e-4
    assert not state.gram[0][head].any()
    assert not state.gram[0][:, head].any()
    torch.testing.assert_close(
        state.gram[1][order][:, order].double(), Y @ Y.T, rtol=1e-4, atol=1e-12
    )


@DTYPES
@pytest.mark.parametrize("iterations", [0, 3, 9])
def test_opcheck_passes(iterations: int, dtype: torch.dtype, history_dtype: torch.dtype) -> None:
    state, x, grad = descend(1500, 4, iterations, dtype, history_dtype)
    loss = torch.zeros((), device=DEVICE)
    torch.library.opcheck(
        torch.ops.stylekernels.lbfgs_dots.default,
        state.dots_operands(grad),
    )
    torch.library.opcheck(
        torch.ops.stylekernels.lbfgs_recursion.default,
        state.recursion_operands(loss),
    )
    torch.library.opcheck(
        torch.ops.stylekernels.lbfgs_apply.default,
        state.apply_operands(grad, x),
    )


@DTYPES
@pytest.mark.parametrize("iterations", [1, 7])
def test_the_traces_of_a_bad_gradient_never_reach_the_image(
    iterations: int, dtype: torch.dtype, history_dtype: torch.dtype
) -> None:
    state, x, grad = descend(1500, 4, iterations, dtype, history_dtype)
    loss = torch.zeros((), device=DEVICE)
    advance(state, x, torch.full_like(grad, float("nan")), loss)
    assert state.ring.tolist() == [0, 0, 0, 1, ROLL_BACK]
    assert torch.equal(x, state.best)
    for _ in range(8):
        advance(state, x, 0.1 * x, loss)
        assert x.isfinite().all()
        assert state.coefficients.isfinite().all()


def test_the_gpu_path_of_plain_torch_reads_all_slots_and_gives_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, x, _ = descend(1500, 4, 3, torch.float64, torch.float64)
    monkeypatch.setattr(cpu, "_rows_in_use", lambda history, _: history.flatten(0, 1))
    second, y, _ = descend(1500, 4, 3, torch.float64, torch.float64)
    torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)
    assert torch.equal(first.ring, second.ring)


def test_splits_of_a_history_cover_every_column_at_every_size() -> None:
    for stride, slots in product((1024, 8192, 9216, 3 * 512**2, 3 * 4096**2), (2, 21, 101)):
        length = split_length(stride, slots)
        splits = -(-stride // length)
        assert length % ROW == 0
        assert splits <= 512
        assert (splits - 1) * length < stride <= splits * length


def test_a_short_history_is_split_more_often_than_a_long_one() -> None:
    stride = 3 * 2048**2
    splits = [-(-stride // split_length(stride, slots)) for slots in (21, 51, 101)]
    assert splits == [54, 32, 32]
