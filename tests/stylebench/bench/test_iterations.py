"""What is timed is what runs: a full history, and the very iteration that was proven."""

import pytest
import torch

from stylebench.bench.workloads.breakdown import parts
from stylebench.bench.workloads.parity_gate import Proof, oracle_fits
from stylebench.bench.workloads.timed_run import Walk
from stylebench.engines import LossTerms
from stylebench.image.synthetic import landscape, painting
from stylebench.model.precision import with_fp64
from stylebench.transfer.problem import pose
from stylebench.transfer.settings import Settings
from stylekernels.ops.lbfgs.state import COUNT


def walk(engine="fused", history=8, **more):
    settings = Settings(
        weights="random", size=32, device="cpu", engine=engine, precision="fp32", history=history,
        **more,
    )  # fmt: skip
    return Walk(pose(landscape(32, 24), painting(32, 24), settings), settings)


def pairs(walk):
    if hasattr(walk.optimizer, "state_dict"):
        return int(walk.optimizer.state_dict()["ring"][COUNT])
    (state,) = walk.optimizer._optimizer.state.values()
    return len(state["old_dirs"])


@pytest.mark.parametrize("engine", ["reference", "fused"])
def test_a_settled_walk_has_its_history_full(engine):
    settled, brief = walk(engine), walk(engine)
    settled.settle()
    assert pairs(settled) == 8
    brief.settle(most=2)
    assert 2 <= pairs(brief) < 8


def test_parts_are_of_the_walk_that_was_timed():
    settled = walk()
    settled.settle()
    before = settled.image.clone()
    found = parts(settled, 2.0)
    assert sum(found.values()) == pytest.approx(2.0)
    assert found["optimizer"] > 0.0
    assert not settled.image.equal(before)  # it went on, and no other in its place
    assert pairs(settled) == 8


@pytest.fixture
def proof():
    settings = Settings(weights="random", size=32, device="cpu")
    return Proof(landscape(32, 24), painting(32, 24), settings)


def test_the_yardstick_of_a_loss_is_plain_pytorchs_largest_error(proof):
    engine = walk("eager").engine
    at_start = proof.checks(engine, "fp32")[0]
    largest = proof._yardstick("fp32").loss
    errors = [
        float((engine.loss_and_grad(point)[0].values - exact).abs().max() / exact.sum())
        for point, exact in zip(
            proof._points, [proof._exact[0], *proof._exact_losses], strict=True
        )
    ]  # fmt: skip
    assert largest == pytest.approx(max(errors))
    assert len(errors) == 3
    assert at_start.limit == pytest.approx(2 * largest + 2e-6)


@pytest.mark.parametrize("engine", ["reference", "eager", "fused"])
def test_a_right_loop_goes_on_right_wherever_it_is(proof, engine):
    it = walk(engine)
    for _ in range(3):
        it.advance(5)
        assert proof.goes_on(it, "fp32").passed


def test_the_loop_is_proven_where_it_is_and_not_where_it_began(proof):
    stuck = walk()
    stuck.advance(5)
    first = stuck.logged()
    stuck.logged = lambda: first
    assert not proof.goes_on(stuck, "fp32").passed


def test_the_oracle_is_not_asked_for_what_no_memory_holds():
    cpu = torch.device("cpu")
    assert oracle_fits((32, 24), cpu)
    assert not oracle_fits((10**6, 10**6), cpu)


def test_the_oracle_is_where_fp64_is():
    assert with_fp64(torch.device("mps")) == torch.device("cpu")
    assert with_fp64(torch.device("cuda", 1)) == torch.device("cuda", 1)


def test_an_engine_elsewhere_is_given_its_own_image_and_compared_with_the_oracle(proof):
    """The meta device stands for one without fp64: its tensors would mix with no others."""
    seen = []

    class Elsewhere:
        def loss_and_grad(self, image):
            seen.append(image.device.type)
            exact, gradient = proof._exact
            return LossTerms(("a",) * len(exact), exact.float()), gradient.float()

    proof._device = torch.device("meta")
    assert max(proof._errors(Elsewhere())) < 1e-6
    assert seen == ["meta"]
