"""A timed run is a user's run: a full history, and the very iteration that was proven."""

import pytest
import torch

from stylebench.bench.suites.base import Bench, Options
from stylebench.bench.workloads.breakdown import breakdown
from stylebench.bench.workloads.parity_gate import ParityGate, oracle_fits
from stylebench.bench.workloads.timed_run import TimedRun
from stylebench.engines import LossTerms
from stylebench.model.precision import with_fp64
from stylebench.transfer.prepare import load_inputs
from stylebench.transfer.problem import build_problem
from stylebench.transfer.settings import Settings
from stylebench.transfer.stepper import WARMUP_STEPS
from stylekernels.ops.lbfgs.state import COUNT

from .conftest import SHALLOW


def timed_run(engine="fused", history=8):
    settings = Settings(
        weights="random", size=32, device="cpu", engine=engine, precision="fp32", history=history,
        **SHALLOW,
    )  # fmt: skip
    return TimedRun(build_problem(load_inputs(*pictures(), settings), settings), settings)


def pictures():
    bench = Bench(Options(device="cpu"))  # which draws them once for all
    return bench.content(32, 24), bench.style(32, 24)


def pairs(run):
    if hasattr(run.optimizer, "state_dict"):
        return int(run.optimizer.state_dict()["ring"][COUNT])
    (state,) = run.optimizer._optimizer.state.values()
    return len(state["old_dirs"])


@pytest.mark.parametrize("engine", ["reference", "fused"])
def test_a_settled_run_has_its_history_full(engine):
    settled, brief = timed_run(engine), timed_run(engine)
    settled.settle()
    assert pairs(settled) == 8
    brief.settle(most=2)
    assert 2 <= pairs(brief) < 8


def test_a_history_that_another_run_has_filled_is_taken_over(monkeypatch):
    filled, other = timed_run("fused"), timed_run("eager")
    filled.settle()
    evaluations = []
    evaluate = other.engine.loss_and_grad
    monkeypatch.setattr(
        other.engine, "loss_and_grad", lambda image: evaluations.append(0) or evaluate(image)
    )
    other.settle(like=filled)
    assert len(evaluations) == WARMUP_STEPS
    assert pairs(other) == 8
    filled.advance(3)
    other.advance(3)
    assert other.image.allclose(filled.image, atol=0.1)  # grey levels: it goes on as the other does


def test_a_breakdown_is_of_the_run_that_was_timed():
    settled = timed_run()
    settled.settle()
    before = settled.image.clone()
    parts = breakdown(settled, 2.0)
    assert sum(parts.values()) == pytest.approx(2.0)
    assert parts["optimizer"] > 0.0
    assert not settled.image.equal(before)  # it went on, and no other in its place
    assert pairs(settled) == 8


@pytest.fixture(scope="module")
def gate():
    settings = Settings(weights="random", size=32, device="cpu", **SHALLOW)
    return ParityGate(load_inputs(*pictures(), settings), settings)


def test_the_yardstick_of_a_loss_is_the_eager_engines_largest_error(gate):
    engine = timed_run("eager").engine
    at_start = gate.checks(engine, "fp32")[0]
    largest = gate._yardstick("fp32").loss
    exact = [gate._exact[0], *gate._exact_losses]
    errors = [
        float((engine.loss_and_grad(point)[0].values - losses).abs().max() / losses.sum())
        for point, losses in zip(gate._points, exact, strict=True)
    ]
    assert largest == pytest.approx(max(errors))
    assert len(errors) == 3
    assert at_start.limit == pytest.approx(2 * largest + 2e-6)


@pytest.mark.parametrize("engine", ["reference", "eager", "fused"])
def test_a_right_loop_stays_right_wherever_it_is(gate, engine):
    run = timed_run(engine)
    for _ in range(3):
        run.advance(5)
        assert gate.check_timed_loop(run, "fp32").passed


def test_the_loop_is_proven_where_it_is_and_not_where_it_began(gate):
    stuck = timed_run()
    stuck.advance(5)
    first = stuck.logged()
    stuck.logged = lambda: first
    assert not gate.check_timed_loop(stuck, "fp32").passed


def test_the_oracle_is_not_asked_for_what_no_memory_holds():
    cpu = torch.device("cpu")
    assert oracle_fits((32, 24), cpu)
    assert not oracle_fits((10**6, 10**6), cpu)


def test_the_oracle_is_where_fp64_is():
    assert with_fp64(torch.device("mps")) == torch.device("cpu")
    assert with_fp64(torch.device("cuda", 1)) == torch.device("cuda", 1)


def test_an_engine_elsewhere_is_given_its_own_image_and_compared_with_the_oracle(gate, monkeypatch):
    """The meta device stands for one without fp64: its tensors would mix with no others."""
    seen = []

    class Elsewhere:
        def loss_and_grad(self, image):
            seen.append(image.device.type)
            exact, gradient = gate._exact
            return LossTerms(("a",) * len(exact), exact.float()), gradient.float()

    monkeypatch.setattr(gate, "_device", torch.device("meta"))
    assert max(gate._errors(Elsewhere())) < 1e-6
    assert seen == ["meta"]
